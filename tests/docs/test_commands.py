"""Every command in the documentation is one that can be run: pipelines, parameters, options and files are there."""

from __future__ import annotations

import logging
import re
import sys
from functools import cache

import pytest
import yaml
from kedro.config import OmegaConfigLoader
from kedro.framework.cli.utils import _split_params
from kedro.validation.exceptions import ParameterValidationError
from kedro.validation.parameter_validator import ParameterValidator

import documented
from crack_pipeline.pipeline_registry import register_pipelines
from crack_pipeline.settings import CONFIG_LOADER_ARGS
from documented import RECIPES, ROOT, SMALL, Command, blocks, commands, filled, pages

sys.path.insert(0, str(ROOT / "docs/tools"))
from parameters import MAPPING, Documented

OWN_PRESETS = {"deepcrack_test": "docs/weak_segmentation.md says what it is", "my_bridge": "docs/your_data.md"}
NOT_PARAMETERS = re.compile(
    r"create_pipeline|promotion\.(decision|reason|run|dice)|retraining\.news|sample\.(jpg|png|zip)|\.(py|md|csv|json|png|yml|html|lock)$"
)
PAGES = pages()
KNOWN = [command for page in PAGES for command in commands(page)]
_VARIABLES = {
    name for file in (ROOT / "conf").rglob("*.yml") for name in re.findall(r"\$\{environment:(\w+)\}", file.read_text())
}
_RUNTIME = {
    name for file in (ROOT / "conf").rglob("*.yml") for name in re.findall(r"runtime_params:\s*(\w+)", file.read_text())
}


@cache
def parameters():
    return Documented.of_the_project(ROOT)


@cache
def pipelines():
    return register_pipelines()


@cache
def nodes():
    return {node.name for pipeline in pipelines().values() for node in pipeline.nodes}


@cache
def validator():
    logging.getLogger("kedro.validation").setLevel(logging.CRITICAL)
    return ParameterValidator(pipelines())


@cache
def _loaded(env, published):
    given = {"published": published} if published else {}
    with pytest.MonkeyPatch.context() as patch:
        for name in _VARIABLES:  # which a machine must have set
            patch.setenv(name, f"http://{name.lower().replace('_', '-')}.test/folder")
        return OmegaConfigLoader(str(ROOT / "conf"), env=env, runtime_params=given, **CONFIG_LOADER_ARGS)["parameters"]


def loaded(env, given):
    """Give the parameters of an environment with those of the command line over them, as Kedro does."""
    return merged(_loaded(env, given.get("published")), given)


def merged(below, above):
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    return below | {name: merged(below.get(name), value) for name, value in above.items()}


def leaves(values, prefix=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


@cache
def _names():
    free = {leaf.name for block in parameters().blocks.values() for leaf in block if leaf.takes == MAPPING}
    patterns = [re.escape(name) + (r"(\.[^.]+)?" if name in free else "") for name in sorted(parameters().names)]
    return re.compile("|".join(patterns).replace("<name>", r"[^.]+"))


def known(name):
    """Whether a parameter has that name; a number in it is that of an entry of a list."""
    return bool(_names().fullmatch(re.sub(r"\.\d+(?=\.|$)", "[]", name)))


def problems(command):
    """Say what is wrong with a command line of kedro run, without running it."""
    words = command.words[command.words.index("kedro") :]
    name, env = command.option("--pipeline", "__default__"), command.option("--env", "local")
    options = [word for word in words[2:] if word.startswith("--")]
    strange = set(options) - {
        "--pipeline",
        "--params",
        "--env",
        "--from-nodes",
        "--tags",
        "--nodes",
        "--runner",
        "--async",
    }
    if strange:
        return f"options {strange}"
    if name not in pipelines():
        return f"no pipeline {name}"
    if not (ROOT / "conf" / env).is_dir():
        return f"no environment {env}"
    missing = set(filter(None, command.option("--from-nodes").split(","))) - {
        node.name for node in pipelines()[name].nodes
    }
    if missing:
        return f"no nodes {missing}"
    given = _split_params(None, None, filled(command.option("--params"), ROOT))
    dataset = given.get("dataset", "folders")
    wrong = [name for name in leaves(given) if name not in _RUNTIME and not known(name)]
    if wrong:
        return f"no parameters {wrong}"
    try:
        whole = loaded(env, given)
        validator().validate_raw_params(whole)
    except ParameterValidationError as error:
        return str(error)
    if dataset not in whole["presets"] and dataset not in OWN_PRESETS:
        return f"no preset {dataset}"
    return ""


@pytest.mark.parametrize("command", KNOWN, ids=str)
def test_somebody_knows_how_to_run_it(command):
    assert command.recipe is not None, f"{command}: add a line to RECIPES in {documented.__file__}"
    if command.recipe.how in ("kedro", "benchmark", "run"):
        left = re.search(r"<[^<>]+>|…|/path/to|raw_root=/(?!\S*world)", filled(command.text, ROOT / "world"))
        assert left is None, f"{command}: add a line for {left[0]} to PLACEHOLDERS in {documented.__file__}"


@pytest.mark.parametrize("command", [c for c in KNOWN if re.match(r"(\w+=\S+ )*kedro run\b", c.text)], ids=str)
def test_kedro_would_run_it(command):
    assert problems(command) == ""


@pytest.mark.parametrize("command", [c for c in KNOWN if re.search(r"benchmarks/\w+\.py|docs/tools/", c.text)], ids=str)
def test_scripts_and_their_options_are_there(command):
    path = ROOT / re.search(r"(benchmarks|docs/tools)/\w+\.py", command.text)[0]
    text = path.read_text(encoding="utf-8")
    for option in re.findall(r"(?<=\s)--[a-z-]+", command.text):
        assert f'"{option}"' in text, f"{command}: {path.name} takes no {option}"
    assert path.name in SMALL or command.recipe.how == "elsewhere", f"add {path.name} to SMALL"


@pytest.mark.parametrize("command", [c for c in KNOWN if c.text.startswith("make ")], ids=str)
def test_make_knows_it(command):
    goal = next(word for word in command.words[1:] if "=" not in word)
    assert re.search(rf"^{goal}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_what_is_not_run_says_why_and_every_recipe_is_of_use():
    for recipe in RECIPES:
        assert (recipe.how == "elsewhere") == bool(recipe.why), recipe
    for benchmark in SMALL:
        assert (ROOT / "benchmarks" / benchmark).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_parameters_in_sentences_are_there(page):
    outside = documented._without_blocks(page.read_text(encoding="utf-8"))
    tops = {name.split(".")[0] for name in parameters().names}
    for code in re.findall(r"`([^`\n]+)`", outside):
        for part in re.findall(r"(?<![\w./<@-])[a-z_]+(?:\.[a-z_]+)+(?:\.\d+\.[a-z_]+)?(?![\w/])", code):
            if (
                part.split(".")[0] in tops
                and not NOT_PARAMETERS.search(part)
                and not code.startswith(("src/", "data/"))
            ):
                assert known(part) or part in nodes(), f"{page.name}: there is no parameter {part}"
        if re.fullmatch(r"(?:[a-z_]+\.[\w.]+=[^,\s]+)(?:,[a-z_]+[\w.]*=[^,\s]+)*", code) and code.split(".")[0] in tops:
            said = problems(Command(page.name, 0, f"kedro run --params {code}"))
            # A sentence may name a part of what goes together
            assert not said or set(re.findall(r"\[type=(\w+)", said)) <= {"missing", "value_error"} != set(), (
                f"{code}: {said}"
            )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_configuration_in_examples_is_valid(page):
    """Blocks of YAML that set parameters are taken by the models that check them, over those of conf/base."""
    for language, _, _, lines in blocks(page):
        if language not in ("yaml", "yml"):
            continue
        values = yaml.safe_load("\n".join(lines))
        tops = {name.split(".")[0] for name in parameters().names} | {"presets"}
        if isinstance(values, dict) and set(values) <= tops:
            wrong = [name for name in leaves(values) if not name.startswith("presets.") and not known(name)]
            assert not wrong, f"{page.name}: no parameters {wrong}"
            validator().validate_raw_params(loaded("local", values))


def test_commands_are_read_as_they_are_written(tmp_path, monkeypatch):
    monkeypatch.setattr(documented, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "Say `make run` or `kedro run --pipeline anomaly`, or `kedro run --pipeline`.\n\n"
        "```sh\nkedro run --pipeline sample   # render\n# nothing\nexport A=\\\n  b\ncat <<END > x\n# y\nEND\n```\n"
        "```python\nmake_nothing()\n```\n  ```bash\n  echo '# no comment'\n  ```\n"
    )
    assert [(found.line, found.text) for found in commands(page)] == [
        (4, "kedro run --pipeline sample"),
        (6, "export A= b"),
        (8, "cat <<END > x\n# y\nEND"),
        (16, "echo '# no comment'"),
        (1, "make run"),
        (1, "kedro run --pipeline anomaly"),
    ]


def test_a_wrong_command_is_noticed():
    def said(text):
        return problems(Command("page", 1, text))

    assert said("kedro run --pipeline anomaly --params raw_root=/x,dataset=pairs,anomaly.vae.epochs=3") == ""
    assert "anomali" in said("kedro run --pipeline anomali")
    assert "anomaly.vae.epoch'" in said("kedro run --pipeline anomaly --params anomaly.vae.epoch=3")
    assert "greater than" in said("kedro run --pipeline anomaly --params anomaly.vae.epochs=0")
    assert "no preset" in said("kedro run --pipeline anomaly --params dataset=mine")
    assert "no environment" in said("kedro run --env nowhere --pipeline anomaly")
    assert "no nodes" in said("kedro run --pipeline anomaly --from-nodes anomaly.no")
