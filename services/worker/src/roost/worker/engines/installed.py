"""What is missing where llama.cpp is not there: the package by its own name, for names that are like ours belong to whoever takes them."""

from __future__ import annotations

from typing import Final

MISSING: Final = "the package cyllama is not installed here (it comes with the extra `llamacpp` of Roost)"
