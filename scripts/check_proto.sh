#!/usr/bin/env bash
# Lints the contract, compares it with what was promised before, and holds that the generated code is what it generates.
set -euo pipefail
cd "$(dirname "$0")/.."
buf lint
buf format --diff --exit-code
# What was promised: the last tag, else the commit before this one.
if base=$(git describe --tags --abbrev=0 2>/dev/null) || base=$(git rev-parse --verify --quiet 'HEAD~1'); then
  if git cat-file -e "$base:buf.yaml" 2>/dev/null; then
    promised=$(mktemp -d)
    trap 'rm -rf "$promised" "${fresh:-}"' EXIT
    git archive "$base" buf.yaml proto | tar -x -C "$promised"
    buf breaking --against "$promised"
  fi
fi
fresh=$(mktemp -d)
trap 'rm -rf "${promised:-}" "$fresh"' EXIT
scripts/generate_proto.sh "$fresh"
cp libs/api/src/roost/v1/__init__.py libs/api/src/roost/v1/py.typed "$fresh/roost/v1/" 2>/dev/null || true
if ! diff -r --exclude=__pycache__ "$fresh/roost/v1" libs/api/src/roost/v1; then
  echo "libs/api/src/roost/v1 is not what proto/ generates: run make proto and commit the result" >&2
  exit 1
fi
echo "proto: lint, format, breaking and generated code are in order"
