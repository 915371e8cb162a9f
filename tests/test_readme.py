"""The documents are true: their commands are run, their answers compared, their links followed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mongomock
import pytest
from flask import Flask

from ticketing import create_app
from ticketing.config import Config
from ticketing.errors import Refusal, Unavailable

from .readme_runner import CommandFailed, Step, Workplace, mistakes, plain, steps_of

ROOT = Path(__file__).parents[1]
NOT_OURS = {".git", ".venv", "var", "build", "node_modules", ".pytest_cache", ".mypy_cache", ".hypothesis"}

FOLLOWED = (
    "README.md",
    "docs/architecture.md",
    "docs/operations/backup.md",
    "docs/clients.md",
    "docs/operations/cli.md",
)
"""Read in this order, at one workplace: the others show what the first has left behind."""

NOT_RUN = {
    plain("git clone https://example.com/your/ticketing.git && cd ticketing"): ".ci/run clones, and makes it run there",
    "make test": "it is what runs this",
    "make lint": "make test begins with it",
    ".venv/bin/python -m pytest tests/domain": "make test runs all of them",
    ".venv/bin/python -m pytest tests/test_readme.py": "it is what runs this",
    "tar -czf ticketing-backup.tar.gz .env var/mongo": "tests/service/test_backup.py does, when a service has stopped",
    "tar -xzf ticketing-backup.tar.gz": "tests/service/test_backup.py does, and starts what was unpacked",
    plain('mongodump --uri "$MONGODB_URI" --oplog --gzip --archive=ticketing.archive.gz'): "no tool of ours",
    plain('mongorestore --uri "$MONGODB_URI" --oplogReplay --gzip --archive=ticketing.archive.gz'): "no tool of ours",
    **{
        plain(f'mongodump --uri "$MONGODB_URI" --db ticketing --out dump --collection {what}'): "no tool of ours"
        for what in ("webhooks", "webhook_cursors", """ledger --query '{"_id": {"$gt": ""}}'""", "users")
    },
    plain('mongorestore --uri "$MONGODB_URI" dump'): "no tool of ours",
    ".venv/bin/flask --app wsgi webhooks deliver": "the README has it in its background",
    plain(
        'curl -s http://127.0.0.1:8000/webhooks -u "$BASIC_AUTH_USERNAME:$BASIC_AUTH_PASSWORD" '
        "-H 'Content-Type: application/json' "
        '-d \'{"url": "https://example.com/tickets", "event_id": "concert-2027"}\''
    ): "tests/api/test_webhooks.py asks for the same",
    "make simulate SEEDS=10000 FIRST_SEED=1": "tests/faults/test_simulator.py plays 500 of them",
    "make faults": "a part of make test, with what it prints in sight",
    "make soak MINUTES=30": "tests/bench/test_soak.py runs it for some seconds",
    "make bench": "tests/bench/test_bench.py runs a part of it",
    plain('make bench SUBJECTS="book status" CONNECTIONS="32 256" ROUNDS=3 SECONDS=3'): "a part of make bench",
    plain(
        'make bench SUBJECTS="book book-1000 status status-busy cancel" CONNECTIONS=32 ROUNDS=4 SECONDS=3'
    ): "a part of make bench",
    "make bench-check": "tests/bench/test_bench.py does, for a second",
    "make bench-record": "make bench with all subjects; tests/bench/test_bench.py writes the documents",
    "make simulate SEED=17": "tests/faults/test_simulator.py has one told",
    "make simulate CONTROLS=1": "tests/faults/test_simulator.py plays each of them",
    "make audit": "it asks a service on the network",
    "make openapi": "it writes; tests/api/test_story.py compares what it would write",
    "make postman": ".ci/run plays it; tests/service/test_postman.py compares the collection with its story",
    "make screenshot": "tests/service/test_docs_page.py, with a camera",
    "make fuzz EXAMPLES=2000": "tests/api/test_fuzz_*.py draw 200",
}
"""The commands in the documents that no test runs, and why."""

NOT_RUN |= dict.fromkeys(
    (
        "apt-get install git make python3-venv nginx redis-server curl openssl",
        "git clone https://example.com/your/ticketing.git /opt/ticketing",
        "make -C /opt/ticketing .venv/.installed",
        "useradd --system --no-create-home --shell /usr/sbin/nologin ticketing",
        "install -d -m 0750 -g ticketing /etc/ticketing",
        "install -m 0640 -g ticketing /dev/null /etc/ticketing/ticketing.env",
        plain(
            "printf 'BASIC_AUTH_PASSWORD=%s\\nJWT_SECRET_KEY=%s\\n' "
            '"$(openssl rand -hex 16)" "$(openssl rand -hex 32)" >> /etc/ticketing/ticketing.env'
        ),
        "cp /opt/ticketing/docs/operations/ticketing.service /etc/systemd/system/",
        "systemctl daemon-reload",
        "systemctl enable --now ticketing",
        "curl -s --retry 10 --retry-delay 1 --retry-connrefused http://127.0.0.1:8000/readyz",
        "cp /opt/ticketing/docs/operations/ticketing-webhooks.service /etc/systemd/system/",
        "systemctl enable --now ticketing-webhooks",
        "curl -s --retry 10 --retry-delay 1 --retry-connrefused http://127.0.0.1:9464/metrics",
        "install -d -m 0700 /etc/ssl/ticketing",
        plain(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 "
            '-subj "/CN=$name" '
            "-keyout /etc/ssl/ticketing/privkey.pem -out /etc/ssl/ticketing/fullchain.pem"
        ),
        "cp /opt/ticketing/docs/operations/nginx.conf /etc/nginx/conf.d/ticketing.conf",
        "name=tickets.example.com",
        plain('sed -i "s/tickets\\.example\\.com/$name/" /etc/nginx/conf.d/ticketing.conf'),
        "nginx -t",
        "systemctl reload nginx",
        plain('curl -s "https://$name/readyz"'),
        "curl -s http://127.0.0.1:8000/metrics",
        "apt-get install prometheus",
        plain("cp /opt/ticketing/docs/operations/{prometheus,alerts}.yml /etc/prometheus/"),
        "systemctl reload prometheus",
        plain("curl -s --get --data-urlencode 'query=up{job=\"ticketing\"}' http://127.0.0.1:9090/api/v1/query"),
        "cp /opt/ticketing/docs/operations/alerts-webhooks.yml /etc/prometheus/",
        plain("sed -i 's/#webhooks//' /etc/prometheus/prometheus.yml"),
        plain("printf 'replication:\\n  replSetName: rs0\\n' >> /etc/mongod.conf"),
        "systemctl enable --now mongod",
        plain(
            "mongosh --quiet --eval "
            "'rs.initiate({_id: \"rs0\", members: [{_id: 0, host: \"127.0.0.1:27017\"}]})'"
        ),
    ),
    "installs on a server; what is installed is tried by tests/operations and tests/service/test_nginx.py",
) | dict.fromkeys(
    (
        plain(
            "test -e .env || printf 'BASIC_AUTH_PASSWORD=%s\\nJWT_SECRET_KEY=%s\\n' "
            '"$(openssl rand -hex 16)" "$(openssl rand -hex 32)" > .env'
        ),
        "mkdir -p certs",
        plain(
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 "
            "-subj /CN=tickets.example.com "
            "-keyout certs/privkey.pem -out certs/fullchain.pem"
        ),
        "docker compose up --build --detach",
        "curl -sk --retry 10 --retry-delay 1 --retry-all-errors https://localhost/readyz",
        "docker build -t ticketing:0.1.0 .",
        plain(
            'kubectl create secret generic ticketing --from-literal=MONGODB_URI="$MONGODB_URI" '
            '--from-literal=BASIC_AUTH_PASSWORD="$(openssl rand -hex 16)" '
            '--from-literal=JWT_SECRET_KEY="$(openssl rand -hex 32)"'
        ),
        "kubectl apply -f docs/operations/kubernetes.yaml",
    ),
    "needs Docker or a cluster; docs/operations/deploy.md says what was not run",
)

FIGURES = "docs/decisions/figures.py"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def documents() -> list[str]:
    """Every Markdown file of the project, relative to its root."""
    found = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = sorted(set(folders) - NOT_OURS)
        found += [str(Path(folder, name).relative_to(ROOT)) for name in names if name.endswith(".md")]
    return sorted(found)


def text_of(document: str) -> str:
    """What a document says."""
    return (ROOT / document).read_text()


def commands_of(document: str) -> list[str]:
    """The command lines of a document, without comments."""
    steps = steps_of(text_of(document))
    return [plain(line) for step in steps for line in step.command.splitlines()]


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Step], list[str]]:
    """The steps of the documents that are followed, and what they printed."""
    steps = [step for document in FOLLOWED for step in steps_of(text_of(document), NOT_RUN)]
    place = Workplace(tmp_path_factory.mktemp("ticketing"), ROOT)
    try:
        return steps, [place.perform(step) for step in steps]
    finally:
        place.close()


class TestCommands:
    """What a document tells its reader to do works, and does what the document says."""

    def test_every_answer_is_true(self, followed: tuple[list[Step], list[str]]) -> None:
        """Booking, waiting, promotion, a kill of everything and a new start: as the README tells it."""
        steps, outputs = followed
        assert not mistakes(steps, outputs)

    def test_the_story_is_all_there(self, followed: tuple[list[Step], list[str]]) -> None:
        """The kill and the second start are among the steps that were run, and the answers are many."""
        steps, _ = followed
        commands = [plain(step.command.splitlines()[0]) for step in steps]
        starts_and_kills = [each.split()[0] for each in commands if each.startswith(("make run", "kill -9"))]
        assert starts_and_kills == ["make", "kill", "make", "make"]
        assert sum(step.answer is not None for step in steps) >= 16

    def test_a_wrong_answer_is_found(self, followed: tuple[list[Step], list[str]]) -> None:
        """The negative control: each value of each answer, altered alone, is a mistake in its own line."""
        steps, outputs = followed
        altered = 0
        for place, step in enumerate(steps):
            for answer in alterations(step):
                wrong = Step(step.line, step.command, answer, step.language)
                found = mistakes([*steps[:place], wrong], outputs[: place + 1])
                assert found and found[0].startswith(f"line {step.line}:"), answer
                altered += 1
        assert altered > 100

    def test_every_command_is_run_or_listed(self) -> None:
        """What is not followed is measured (figures.py) or stands in NOT_RUN."""
        for document in set(documents()) - set(FOLLOWED):
            for command in commands_of(document):
                assert command in NOT_RUN or command.startswith(f".venv/bin/python {FIGURES} "), (
                    document,
                    command,
                )

    def test_nothing_is_listed_that_is_not_there(self) -> None:
        """A command that no document has any more leaves the list."""
        assert set(NOT_RUN) <= {command for document in documents() for command in commands_of(document)}

    def test_the_figures_can_be_measured(self, mongod: str) -> None:
        """Each command that measures figures runs; here with a 500th of the work."""
        names = {
            command.rpartition(" ")[2]
            for document in documents()
            for command in commands_of(document)
            if f" {FIGURES} " in command
        }
        assert names
        command = [sys.executable, FIGURES, "--scale", "0.002", *sorted(names)]
        subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"MONGODB_URI": mongod}, timeout=300)

    def test_the_receiver_is_the_one_that_is_shown(self) -> None:
        """docs/receiver.py runs in the README's story; docs/webhooks.md shows it without its first lines."""
        code = (ROOT / "docs" / "receiver.py").read_text().partition('"""\n\n')[2]
        assert f"```python\n{code}```" in text_of("docs/webhooks.md")


class TestTables:
    """The tables of the README name what there is, all of it. For the settings see tests/test_config.py."""

    def test_every_endpoint(self, app: Flask) -> None:
        """Each method and path once, with its placeholders."""
        listed = re.findall(r"(?m)^\| `([A-Z]+ /[^`]*)` \|", text_of("README.md"))
        served = [
            f"{method} {rule.rule}"
            for rule in app.url_map.iter_rules()
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
            if rule.endpoint != "docs_assets"
        ]
        assert sorted(listed) == sorted(served)

    def test_every_error(self) -> None:
        """All codes of the domain are there, and none that no source knows."""
        rows = re.findall(r"(?m)^\| \d{3}[\d, ]* \| (.*) \|$", text_of("README.md"))
        listed = {code for row in rows for code in re.findall(r"`([a-z_]+)`", row)} - {"order_id"}
        domain = {kind.code for kind in (*Refusal.__subclasses__(), *Unavailable.__subclasses__())}
        assert domain <= listed
        source = "".join(path.read_text() for path in (ROOT / "ticketing" / "api").glob("*.py"))
        assert {code for code in listed - domain if f'"{code}"' not in source} == set()

    @pytest.fixture
    def app(self) -> Iterator[Flask]:
        """The app, on a database that nobody asks."""
        client: Any = mongomock.MongoClient()
        with client:
            yield create_app(Config(mongodb_uri="mongodb://nowhere"), client=client)


class TestLinks:
    """A link leads somewhere."""

    @pytest.mark.parametrize("document", documents())
    def test_every_relative_link_leads_to_a_file(self, document: str) -> None:
        """And where it names a heading, the heading is there."""
        for target in LINK.findall(text_of(document)):
            assert leads_somewhere(document, target), f"{document}: {target}"

    def test_a_broken_link_is_seen(self) -> None:
        """The negative control."""
        assert leads_somewhere("README.md", "LICENSE")
        assert leads_somewhere("docs/architecture.md", "../README.md#settings")
        assert not leads_somewhere("README.md", "docs/nowhere.md")
        assert not leads_somewhere("README.md", "#nowhere")


class TestTheRunner:
    """The runner itself."""

    def test_answers_belong_to_the_command_before_them(self) -> None:
        """Indented blocks too; other languages are neither."""
        text = "```sh\necho 1   # one\n```\n```json\n1\n```\n\n1. x\n\n   ```sh\n   echo 2\n   ```\n"
        text += "```mermaid\na\n```\n"
        assert steps_of(text) == [Step(2, "echo 1   # one", "1\n", "json"), Step(11, "echo 2")]

    def test_a_block_with_the_name_of_a_file_is_written(self) -> None:
        """Other blocks of its language are not."""
        text = "```python\n# story.py\nprint(1)\n```\n```python\nprint(2)\n```\n"
        [step] = steps_of(text)
        assert step.command.splitlines()[1:-1] == ["# story.py", "print(1)"]

    def test_commands_left_out(self) -> None:
        """A line of a block, or the whole block."""
        text = "```sh\nmake test  # all\nmake run\n```\n\n```sh\nmake test\n```\n"
        assert steps_of(text, {"make test"}) == [Step(2, "make run")]

    def test_an_answer_without_a_command(self) -> None:
        """Nobody could say whether it is true."""
        with pytest.raises(ValueError, match="line 2: an answer without a command"):
            steps_of("```json\n1\n```\n")

    def test_ids_must_agree_among_themselves(self) -> None:
        """Which order it is matters, not how it is called this time."""
        ada, dan = "concert." + "a" * 22, "concert." + "d" * 22
        one, two = "concert." + "1" * 22, "concert." + "2" * 22
        said = [Step(1, "x", f"{ada}\n{dan}\n{ada}", "text")]
        assert not mistakes(said, [f"{one}\n{two}\n{one}"])
        assert mistakes(said, [f"{one}\n{two}\n{two}"])

    def test_times_may_differ(self) -> None:
        """Each run has its own."""
        said = [Step(1, "x", '{"at": "2027-01-01T20:00:00.000Z"}', "json")]
        assert not mistakes(said, ['{"at":"2026-05-04T03:02:01.123Z"}\n'])
        assert mistakes(said, ['{"at":null}\n'])

    def test_a_failed_command(self, tmp_path: Path) -> None:
        """It is named with the line of the document, and the shell is left behind by nobody."""
        place = Workplace(tmp_path, ROOT)
        try:
            assert place.perform(Step(1, "name=ada; echo hello $name")).strip() == "hello ada"
            with pytest.raises(CommandFailed, match=r"line 7: false\nended with status 1"):
                place.perform(Step(7, "false"))
            assert place.perform(Step(9, "echo $name")).strip() == "ada"
        finally:
            place.close()


def alterations(step: Step) -> Iterator[str]:
    """The answer of a step with one thing altered: a value of its JSON, or a line of its text."""
    if step.answer is None:
        return
    if step.language == "text":
        lines = step.answer.splitlines()
        for number in range(len(lines)):
            yield "\n".join([*lines[:number], f"not {lines[number]}", *lines[number + 1 :]])
        return
    for value in re.finditer(r'(?<=": )(?:"(?:[^"\\]|\\.)*"|-?\d+|null|true|false)|(?m:^\d+$)', step.answer):
        yield step.answer[: value.start()] + '"an altered value"' + step.answer[value.end() :]


def leads_somewhere(document: str, target: str) -> bool:
    """Whether a link of a document leads to a file, and to a heading in it. Other sites are not asked."""
    if re.match(r"https?://", target):
        return True
    path, _, heading = target.partition("#")
    file = (ROOT / document).parent / path if path else ROOT / document
    if not file.exists():
        return False
    lines = file.read_text().splitlines() if heading else []
    return not heading or heading in {_anchor(line) for line in lines if line.startswith("#")}


def _anchor(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower()).replace(" ", "-")
