"""Dockerfile, compose.yaml, the manifest for Kubernetes and systemd's units: what they set is a setting, what they run
is a command, and what they name is there. Nothing here needs Docker, Kubernetes or systemd."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
from dataclasses import fields
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

import click
import mongomock
import pytest
import yaml
from flask.cli import ScriptInfo

from tests.faults.replica_set import ELECTION_TIMEOUT_MS
from tests.test_readme import ROOT
from ticketing import create_app
from ticketing.config import Config, variable

FOLDER = ROOT / "docs" / "operations"
SETTINGS = {variable(setting) for setting in fields(Config)}
GUNICORN = ["gunicorn", "-c", "python:ticketing.gunicorn_conf", "wsgi:app"]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
UID = 10001
SECRETS = {"BASIC_AUTH_PASSWORD": "a long password", "JWT_SECRET_KEY": "a key of the tests, 32 bytes or more"}


def unpacked(path: str) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all((ROOT / path).read_text()))


COMPOSE = unpacked("compose.yaml")[0]
MANIFEST = unpacked("docs/operations/kubernetes.yaml")
OURS = {name: each for name, each in COMPOSE["services"].items() if each["image"] == "ticketing"}
PODS = [each["spec"]["template"]["spec"] for each in MANIFEST if each["kind"] == "Deployment"]
CONTAINERS = [each for pod in PODS for each in [*pod.get("initContainers", []), *pod["containers"]]]
UNITS = sorted(FOLDER.glob("*.service"))


@cache
def commands() -> Any:
    """The commands of `flask --app wsgi`."""
    client: Any = mongomock.MongoClient()
    return create_app(Config(mongodb_uri="mongodb://nowhere"), client=client).cli


def is_ours(command: list[str]) -> bool:
    """Whether this is how the service is run, or one of its commands with options that it takes."""
    if command == GUNICORN:
        return True
    program, app, wsgi, *words = command
    assert (program, app, wsgi) == ("flask", "--app", "wsgi")
    group = commands()
    context = click.Context(group, obj=ScriptInfo(create_app=lambda: None))  # type: ignore[arg-type,return-value]
    while isinstance(group, click.Group):
        found = group.get_command(context, words.pop(0))
        assert found is not None
        group = found
    group.make_context(group.name, words)  # raises where an option is unknown
    return True


class TestDocker:
    def test_it_runs_the_service_without_rights(self) -> None:
        """As a user of its own, by the command of the README, and looked at by the question of the contract."""
        _, _, final = DOCKERFILE.rpartition("\nFROM ")
        assert f"\nUSER {UID}\n" in final and f"--uid {UID}" in final
        (command,) = re.findall(r"^CMD (\[.*\])$", final, re.MULTILINE)
        assert is_ours(json.loads(command))
        (check,) = re.findall(r"^    CMD (\[.*\])$", final, re.MULTILINE)
        assert "/healthz" in json.loads(check)[2]
        compile(json.loads(check)[2], "HEALTHCHECK", "exec")

    def test_what_it_sets_are_settings(self) -> None:
        """And those of Python itself."""
        (block,) = re.findall(r"^ENV ((?:.*\\\n)*.*)$", DOCKERFILE, re.MULTILINE)
        given = dict(word.split("=", 1) for word in block.replace("\\\n", " ").split())
        assert set(given) - SETTINGS == {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
        Config.from_env(given, dotenv_path=None)

    def test_base_images_have_a_version(self) -> None:
        """What is built tomorrow is what was built today, but for security fixes."""
        images = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
        images += [each["image"] for each in COMPOSE["services"].values() if each["image"] != "ticketing"]
        assert all(re.search(r":\d+\.\d+", image) for image in images)

    def test_what_is_copied_is_there_and_nothing_else_is_sent(self) -> None:
        """.dockerignore leaves out all but that: no .env, no var/, no .git."""
        copied = set(re.findall(r"^COPY (?!--from)(\S+) ", DOCKERFILE, re.MULTILINE))
        assert all((ROOT / name).exists() for name in copied)
        lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
        assert lines[0] == "*"
        assert {line[1:] for line in lines if line.startswith("!")} == copied
        assert any(fnmatch("x/__pycache__", line) for line in lines[1:])

    def test_no_compiler_and_no_pip_are_left(self) -> None:
        """Wheels only, and the final stage takes pip away."""
        assert "--only-binary :all:" in DOCKERFILE and "apt-get" not in DOCKERFILE
        assert "pip uninstall --yes --quiet pip setuptools wheel" in DOCKERFILE.rpartition("\nFROM ")[2]


class TestCompose:
    @pytest.mark.parametrize("name", OURS)
    def test_settings_and_commands(self, name: str) -> None:
        """Each variable is a setting that may have this value, and each command is one of ours."""
        given = {
            key: SECRETS[key] if value.startswith(f"${{{key}:?") else value
            for key, value in OURS[name]["environment"].items()
        }
        assert set(given) <= SETTINGS
        config = Config.from_env(given, dotenv_path=None)
        assert config.trusted_proxies == 1
        assert is_ours(OURS[name].get("command", GUNICORN))

    @pytest.mark.parametrize("name", OURS)
    def test_it_has_no_rights(self, name: str) -> None:
        """A root file system that is read-only, no capability, and a place to write that is its user's."""
        service = OURS[name]
        assert service["read_only"] and service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert f"/var/lib/ticketing:uid={UID},gid={UID},mode=700" in service["tmpfs"]

    def test_what_is_named_is_there(self) -> None:
        """Services, networks, volumes, files."""
        hosts = re.findall(r"(\w+)(?=[,/])", OURS["ticketing"]["environment"]["MONGODB_URI"].partition("//")[2])
        assert {"mongo1", "mongo2", "mongo3"} <= set(hosts) & set(COMPOSE["services"])
        for service in COMPOSE["services"].values():
            assert set(service.get("depends_on", ())) <= set(COMPOSE["services"])
            assert set(service["networks"]) <= set(COMPOSE["networks"])
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                assert source in COMPOSE["volumes"] or source == "./certs" or (ROOT / source).exists()
            for dependency, how in service.get("depends_on", {}).items():
                if how["condition"] == "service_healthy":
                    assert dependency == "ticketing" or "healthcheck" in COMPOSE["services"][dependency]

    def test_mongodb_and_redis_are_reached_by_the_service_alone(self) -> None:
        """They have no passwords: their network leads nowhere, and none of their ports is published."""
        assert COMPOSE["networks"]["data"] == {"internal": True}
        for name in ("mongo1", "mongo2", "mongo3", "redis", "replica-set", "init-db"):
            assert COMPOSE["services"][name]["networks"] == ["data"]
            assert "ports" not in COMPOSE["services"][name]
        assert [name for name, each in COMPOSE["services"].items() if "ports" in each] == ["nginx"]

    def test_elections_come_as_soon_as_they_do_where_recovery_is_tried(self) -> None:
        """With MongoDB's own 10 s, tests/faults/test_replica_set.py would not see service again within 10 s. The pages
        for those who have another replica set say the same."""
        told = f"electionTimeoutMillis: {ELECTION_TIMEOUT_MS}"
        script = COMPOSE["services"]["replica-set"]["command"][-1]
        assert f"settings: {{{told}}}" in script[script.index("rs.initiate(") :]
        assert told in (FOLDER / "deploy.md").read_text()
        assert "electionTimeoutMillis" in (FOLDER / "atlas.md").read_text()

    def test_nginx_is_configured_by_the_file_that_is_tried(self) -> None:
        """tests/service/test_nginx.py runs it with another address in the same place."""
        _, _, command = COMPOSE["services"]["nginx"]["command"]
        (old, new) = re.findall(r"sed 's/(.*?)/(.*?)/'", command)[0]
        assert (FOLDER / "nginx.conf").read_text().count(old) == 1
        assert new == f"ticketing:{Config().port}"


class TestKubernetes:
    def test_settings_and_commands(self) -> None:
        """Each entry of the config map is a setting that may have this value, each command one of ours."""
        (config_map,) = [each for each in MANIFEST if each["kind"] == "ConfigMap"]
        assert set(config_map["data"]) <= SETTINGS
        Config.from_env(config_map["data"], dotenv_path=None)
        for container in CONTAINERS:
            assert is_ours(container.get("command", GUNICORN))
            names = [source for each in container["envFrom"] for source in each.values()]
            assert names == [{"name": "ticketing"}] * 2

    def test_it_has_no_rights(self) -> None:
        """No root, no token, no capability, nothing to write but a volume in memory."""
        for pod in PODS:
            assert pod["automountServiceAccountToken"] is False
            assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == UID
        for container in CONTAINERS:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }

    def test_selectors_and_probes(self) -> None:
        """Labels select the pods that are there; probes ask for what the service answers, by a port that has a name."""
        labels = [each["spec"]["template"]["metadata"]["labels"] for each in MANIFEST if each["kind"] == "Deployment"]
        for each in MANIFEST:
            selector = each.get("spec", {}).get("selector")
            if selector is not None:
                assert selector.get("matchLabels", selector) in labels
        (service,) = [each for each in CONTAINERS if each["name"] == "ticketing"]
        probes = {kind: service[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
        assert {kind: probe["path"] for kind, probe in probes.items()} == {
            "startup": "/healthz",
            "liveness": "/healthz",
            "readiness": "/readyz",
        }
        assert {probe["port"] for probe in probes.values()} == {service["ports"][0]["name"]}
        assert service["ports"][0]["containerPort"] == Config().port


def test_the_pages_agree_on_the_memory_of_a_worker() -> None:
    """What one has that knows no event yet: who sizes a machine and who reads about reliability find one figure."""
    (measured,) = re.findall(r"\| nothing yet \| \| \| (\d+ MB) \|", (ROOT / "docs" / "reliability.md").read_text())
    assert f"on top of {measured} a worker" in (FOLDER / "sizing.md").read_text()


class TestSystemd:
    @pytest.mark.parametrize("path", UNITS, ids=lambda path: path.stem)
    def test_settings_and_commands(self, path: Any) -> None:
        """Each variable is a setting, each command one of ours, in the folder where it is installed."""
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read(path)
        service = dict(parser["Service"])
        given = dict(word.split("=", 1) for word in service["Environment"].split())
        assert set(given) <= SETTINGS
        assert given["DATA_DIR"] == f"/var/lib/{service['StateDirectory']}"
        for key in ("ExecStartPre", "ExecStart"):
            if key in service:
                folder, _, program = service[key].partition("/.venv/bin/")
                assert folder == service["WorkingDirectory"] and is_ours(shlex.split(program))

    def test_both_are_there(self) -> None:
        """The service, and who delivers."""
        assert [path.stem for path in UNITS] == ["ticketing-webhooks", "ticketing"]

    def test_the_page_puts_the_name_of_the_server_everywhere(self, tmp_path: Path) -> None:
        """By its own line, in all places of nginx.conf that stand for it."""
        page = (FOLDER / "deploy.md").read_text()
        (line,) = re.findall(r"sed -i .* /etc/nginx/conf.d/ticketing.conf", page)
        (tmp_path / "ticketing.conf").write_text((FOLDER / "nginx.conf").read_text())
        command = f"name=concerts.example.org; {line.replace('/etc/nginx/conf.d/', '')}"
        subprocess.run(["bash", "-ec", command], cwd=tmp_path, check=True)
        written = (tmp_path / "ticketing.conf").read_text()
        assert "tickets.example.com" not in written and written.count("server_name concerts.example.org;") == 2

    def test_the_page_sets_settings(self) -> None:
        """What an operator copies from deploy.md is taken, with the two secrets that it makes."""
        page = (FOLDER / "deploy.md").read_text()
        (block,) = re.findall(r"```ini\n(.*?)```", page, re.DOTALL)
        given = dict(line.strip().split("=", 1) for line in block.strip().splitlines())
        assert not set(given) & set(SECRETS)
        assert all(page.count(f"{name}=%s") == 2 for name in SECRETS)  # on a server, and with Compose
        assert Config.from_env(given | SECRETS, dotenv_path=None).trusted_proxies == 1
