"""The image's and Kubernetes' files, without a builder and without a cluster: they fit the project,
its settings and its command line, and Kubernetes' own schemas."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from agents.__main__ import main
from agents.core.model.topology import kind_from_account
from agents.settings import load_settings

PROJECT = Path(__file__).parents[2]
CONTAINERFILE = PROJECT / "containers" / "Containerfile"
KUBERNETES = PROJECT / "containers" / "kubernetes"
VERSION = "1.37"

Tree = Any  # YAML


def read_documents(name: str) -> list[Tree]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text("utf-8")))


def merge(base: Tree, over: Tree) -> Tree:
    """As Kubernetes' strategic merge does for what our files have: tables by key, lists of named
    rows by name, the patch's new rows first."""
    if isinstance(base, dict) and isinstance(over, dict):
        both = {key: merge(base[key], over[key]) for key in base.keys() & over.keys()}
        return base | over | both
    if isinstance(base, list) and isinstance(over, list):
        rows = {row["name"]: row for row in base}
        new = [row for row in over if row["name"] not in rows]
        named = {row["name"]: row for row in over}
        return new + [merge(row, named.get(name, {})) for name, row in rows.items()]
    return over


def resources() -> list[Tree]:
    """What the base makes."""
    [patch] = read_documents("pod.yaml")
    del patch["metadata"]["name"]
    return [
        merge(doc, patch) if doc["kind"] == "StatefulSet" else doc
        for doc in read_documents("fleet.yaml")
    ]


SETS = [doc for doc in resources() if doc["kind"] == "StatefulSet"]
each_set = pytest.mark.parametrize("made", SETS, ids=[doc["metadata"]["name"] for doc in SETS])


@pytest.mark.parametrize(
    "doc", resources(), ids=lambda doc: f"{doc['kind']} {doc['metadata']['name']}"
)
def test_each_resource_fits_the_schema_of_kubernetes(doc: Tree) -> None:
    kubernetes_validate.validate(doc, VERSION, strict=True)


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="no kubectl here")
def test_kubectl_makes_the_same_of_the_base() -> None:
    built = subprocess.run(
        ["kubectl", "kustomize", KUBERNETES], capture_output=True, check=True, timeout=60
    ).stdout

    def by_name(docs: list[Tree]) -> dict[tuple[str, str], Tree]:
        return {(doc["kind"], doc["metadata"]["name"]): doc for doc in docs}

    assert by_name(list(yaml.safe_load_all(built))) == by_name(resources())


@each_set
def test_each_pod_runs_a_process_of_ours_under_its_own_account(made: Tree) -> None:
    """The account of the pod `node-iad-0` is that of the node that its command names."""
    [container] = made["spec"]["template"]["spec"]["containers"]
    words = container["command"][2].split()
    kind = words[2]
    command = main.get_command(click.Context(main), kind) if isinstance(main, click.Group) else None
    assert words[:2] == ["exec", "geolane"]
    assert command is not None
    options = {option for p in command.params for option in p.opts}
    assert {word for word in words if word.startswith("--")} <= options
    if kind == "coordinator":
        assert {"name": "ACCOUNT", "value": "geolane"} in container["env"]
    else:
        pod = f"{made['metadata']['name']}-0"
        found = kind_from_account(pod)
        assert found is not None
        assert found.name == kind
        assert words[-1] == f'"${{ACCOUNT#{kind}-}}"'


@each_set
def test_a_pods_variables_are_settings_of_ours_and_its_files_are_mounted(made: Tree) -> None:
    pod = made["spec"]["template"]["spec"]
    [container] = pod["containers"]
    given = {row["name"]: row["value"] for row in container["env"] if "value" in row}
    settings = load_settings(None, environ=given)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert {settings.xmpp.password_file, settings.kafka.password_file} <= mounts
    assert container["ports"][0]["containerPort"] == settings.metrics.port
    assert pod["terminationGracePeriodSeconds"] > settings.worker.drain_s
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


def test_the_image_has_all_packages_and_variables_that_are_settings() -> None:
    text = CONTAINERFILE.read_text("utf-8").replace("\\\n", " ")
    copied = {
        word for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.M) for word in line.split()
    }
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
    packages = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.removesuffix("*") for name in packages} <= copied
    assert all((PROJECT / name).exists() for name in copied)
    kept = (PROJECT / ".dockerignore").read_text("utf-8").splitlines()
    assert {f"!{name}" for name in copied} <= set(kept)
    [variables] = re.findall(r"^ENV (.*)$", text, re.M)
    given = dict(word.split("=", 1) for word in variables.split())
    assert load_settings(None, environ=given).coordinator.journal.startswith("/var/lib/geolane/")
