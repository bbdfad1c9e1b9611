#!/usr/bin/env bash
# Generates roost.v1 from proto/ into the folder given (libs/api/src). Only `make proto` and the check call it.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$1
mkdir -p "$out/roost/v1"
rm -f "$out"/roost/v1/*_pb2*.py "$out"/roost/v1/*_pb2*.pyi
mapfile -t files < <(find proto -name '*.proto' | LC_ALL=C sort)
python -m grpc_tools.protoc -Iproto --python_out="$out" --grpc_python_out="$out" \
  --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" "${files[@]}"
# Files without a service need no gRPC module.
for file in "${files[@]}"; do
  grep -q '^service ' "$file" && continue
  stem=$out/$(basename "$(dirname "$(dirname "$file")")")/$(basename "$(dirname "$file")")/$(basename "$file" .proto)
  rm -f "${stem}_pb2_grpc.py" "${stem}_pb2_grpc.pyi"
done
