"""models.toml: what is read, and that every mistake is told with its line."""

from __future__ import annotations

import pytest

from roost.cluster.catalogue import Catalogue, CatalogueError, ModelSpec, default_catalogue_text, parse_catalogue
from roost.cluster.errors import InvalidField, UnknownModel
from roost.cluster.toml_lines import TomlLines

SIMULATED = 'engine = "simulated"\nsource = "published"\nsize = "1GB"\n'


def spec(name: str, engine: str = "simulated", source: str = "published") -> ModelSpec:
    return ModelSpec(name=name, engine=engine, source=source, size_bytes=1_000_000)


def complaint(text: str) -> str:
    with pytest.raises(CatalogueError) as refusal:
        parse_catalogue(text, "models.toml")
    return str(refusal.value)


def test_the_catalogue_that_ships_lists_real_and_simulated_models() -> None:
    catalogue = parse_catalogue(default_catalogue_text(), "models.toml")
    real = {model.name for model in catalogue if not model.is_simulated}
    assert real == {"gemma-3-270m", "gemma-3-270m-q4_0", "gemma-3-270m-q2_k", "gemma-3-270m-q8_0"}
    assert {"llama-7b", "llama-13b", "gpt-neo-2.7b", "gpt-j-6b", "mistral-7b", "opt-1.3b", "opt-6.7b"} <= set(catalogue.names)


def test_the_sizes_that_ship_are_the_published_ones() -> None:
    catalogue = parse_catalogue(default_catalogue_text(), "models.toml")
    assert catalogue.get("gemma-3-270m").size_bytes == 253_113_024
    assert catalogue.get("llama-7b").size_bytes == 13_480_000_000
    assert catalogue.get("gpt-neo-2.7b").size_bytes == 5_300_000_000


def test_an_entry_is_read_whole() -> None:
    text = """
        [models.local]
        engine = "llamacpp"
        source = "path:~/x.gguf"
        size = "2GiB"
        limits = { context_tokens = 4096, default_max_tokens = 10, max_tokens = 20, parallel = 3 }
        [models.local.options]
        threads = 2
    """
    assert parse_catalogue(text, "models.toml").get("local") == ModelSpec(
        name="local",
        engine="llamacpp",
        source="path:~/x.gguf",
        size_bytes=2 * 1024**3,
        context_tokens=4096,
        default_max_tokens=10,
        max_tokens=20,
        max_parallel=3,
        options={"threads": 2},
    )


def test_limits_that_are_not_given_fit_a_small_context() -> None:
    text = f"[models.small]\n{SIMULATED}limits.context_tokens = 64"
    small = parse_catalogue(text, "models.toml").get("small")
    assert (small.context_tokens, small.max_tokens, small.default_max_tokens) == (64, 64, 64)


def test_a_model_served_elsewhere_needs_no_size_and_no_context() -> None:
    remote = parse_catalogue('[models.r]\nengine = "openai"\nsource = "http://10.0.0.1:8000/v1#r"', "models.toml").get("r")
    assert (remote.size_bytes, remote.context_tokens) == (0, 0)


def test_a_simulated_model_is_marked_in_the_listing_for_deciders() -> None:
    listing = Catalogue([spec("made-up"), spec("real", "llamacpp", "path:x.gguf")]).catalogue_models()
    assert [(model.name, model.is_simulated) for model in listing] == [("made-up", True), ("real", False)]


def test_an_unknown_model_is_told_with_the_nearest_names() -> None:
    with pytest.raises(UnknownModel) as refusal:
        Catalogue([spec("llama-7b"), spec("mistral-7b")]).get("lama-7b")
    assert "llama-7b" in refusal.value.nearest


def test_a_name_listed_twice_is_refused() -> None:
    with pytest.raises(InvalidField, match="listed twice"):
        Catalogue([spec("a"), spec("a")])


def test_an_empty_catalogue_is_a_catalogue() -> None:
    assert parse_catalogue("", "models.toml").names == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[models.a]\nengine = "simulated"\nsize = 1', "models.toml line 1: models.a.source: is missing"),
        (f"\n# note\n[models.a]\n{SIMULATED}colour = 1", "models.toml line 7: models.a.colour: is not a key of a model"),
        ('[models.a]\nengine = "simulatd"', "models.toml line 2: models.a.engine: 'simulatd' is not an engine"),
        ("[models.a]\nengine = 3", "models.toml line 2: models.a.engine: must be a text"),
        ('[models.a]\nengine = "simulated"\nsource = "published"', "models.toml line 1: models.a.size: is missing"),
        ('[models.a]\nengine = "simulated"\nsource = "published"\nsize = "1XB"', "models.toml line 4: models.a.size: 'XB' is not a unit"),
        ('[models.a]\nengine = "simulated"\nsource = "published"\nsize = -5', "models.toml line 4: models.a.size: must be 0"),
        (
            '[models.a]\nengine = "simulated"\nsource = "published"\nsize = true',
            "models.toml line 4: models.a.size: must be a whole number",
        ),
        ('[models.a]\nsource = "ftp:x"\nengine = "llamacpp"\nsize = 1', "models.toml line 2: models.a.source: 'ftp:x' is not a source"),
        (f"[models.a]\n{SIMULATED}limits = {{ parallel = -1 }}", "models.toml line 5: models.a.limits.parallel: must be 1-1024 (got -1)"),
        (f"[models.a]\n{SIMULATED}[models.a.limits]\n\nmax_tokens = 0", "models.toml line 7: models.a.limits.max_tokens: must be 1-"),
        (f"[models.a]\n{SIMULATED}limits.max_tokens = 9999", "models.toml line 5: models.a.limits.max_tokens: is 9999, more than"),
        (f"[models.a]\n{SIMULATED}limits.max_tokens = 1.5", "models.toml line 5: models.a.limits.max_tokens: must be a whole number"),
        (
            f"[models.a]\n{SIMULATED}limits.max_token = 5",
            "models.toml line 5: models.a.limits.max_token: is not a limit; did you mean max_tokens",
        ),
        (f"[models.a]\n{SIMULATED}parallel = 5", "models.toml line 5: models.a.parallel: belongs in limits: write limits.parallel"),
        (f"[models.a]\n{SIMULATED}limits = 5", "models.toml line 5: models.a.limits: must be a table"),
        (
            f"[models.a]\n{SIMULATED}options.threads = 5",
            "models.toml line 5: models.a.options.threads: is not an option of the simulated engine",
        ),
        (f'[models.a]\n{SIMULATED}options.tier = "floppy"', "models.toml line 5: models.a.options.tier: must be one of"),
        (f'[models.a]\n{SIMULATED}options.seed = "x"', "models.toml line 5: models.a.options.seed: must be a whole number"),
        (f"[models.a]\n{SIMULATED}options.seed = [1]", "models.toml line 5: models.a.options.seed: must be a text, a number"),
        (f"[models.a]\n{SIMULATED}[models.a]", "models.toml line 5: is not TOML: Cannot declare"),
        ("[models.a]\nengine = 'x\n", "models.toml line 2: is not TOML:"),
        ("[models.a", "models.toml line 1: is not TOML:"),
        ("model = 1", "models.toml line 1: model: is not a table of a model catalogue; did you mean models"),
        ("\nmodels = 1", "models.toml line 2: models: must be a table"),
        ("[[models]]", "models.toml line 1: models: must be a table"),
        ('[models]\n\na = "x"', "models.toml line 3: models.a: must be a table"),
        (f'[models.""]\n{SIMULATED}', "models.toml line 1: models."),
        (
            f'[models.b]\n{SIMULATED}\n[models."x.q"]\nengine = "llamacpp"\nsize = 1\nsource = "quantize:y:Q4_0"',
            "models.toml line 9: models.x.q.source: quantizes 'y', which is not listed",
        ),
        (
            f'[models.b]\n{SIMULATED}\n[models.q]\nengine = "llamacpp"\nsize = 1\nsource = "quantize:b:Q4_0"',
            "models.toml line 9: models.q.source: quantizes 'b', which has no GGUF file",
        ),
        (
            '[models.q]\nengine = "llamacpp"\nsize = 1\nsource = "quantize:b:Q9_9"',
            "models.toml line 4: models.q.source: 'quantize:b:Q9_9' is not a source",
        ),
        (f"[models.a]\n{SIMULATED}x = 1\n".replace("\n", "\r\n"), "models.toml line 5: models.a.x:"),
    ],
)
def test_a_mistake_is_told_with_its_line(text: str, words: str) -> None:
    assert words in complaint(text)


def test_a_header_inside_a_text_is_not_taken_for_a_table() -> None:
    text = f'[models.a]\n{SIMULATED}sha256 = """\n[models.b]\nwrong = 1\n"""\n\n[models.b]\n{SIMULATED}wrong = 2'
    assert TomlLines(text).line_of(("models", "b", "wrong")) == 14
    assert "line 5: models.a.sha256" in complaint(text)


def test_every_way_to_write_a_key_is_found() -> None:
    text = "[ 'models' . \"a.b\" ]  # note\nlimits.x = [\n  1,\n  # ]\n  2,\n]\ny = { z = 3 }\n[[models.list]]\nw = 4"
    lines = TomlLines(text)
    assert lines.line_of(("models", "a.b")) == 1
    assert lines.line_of(("models", "a.b", "limits", "x")) == 2
    assert lines.line_of(("models", "a.b", "y", "z")) == 7
    assert lines.line_of(("models", "list", "w")) == 9
    assert lines.line_of(("models", "a.b", "absent")) == 1


def test_a_catalogue_of_unreasonable_size_is_refused_unread() -> None:
    assert "at most" in complaint("#" * 5_000_000)
