"""Planted samples: a scanner whose word is taken finds each of these, in the same run.

They are assembled where a scanner of this repository would otherwise find them here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import dagger

from ci.errors import StageErrored

__all__ = ["IAC", "PYTHON", "SECRETS", "WORKFLOW", "Sample", "require", "with_sample"]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Files with planted faults, and the rules by which a scanner has to report them."""

    #: What it is, as a report says it: "an eval of input".
    title: str
    #: Path relative to the sample's folder, to text.
    files: Mapping[str, str]
    #: Each of these has to be found.
    rules: frozenset[str]


PYTHON = Sample(
    title="a planted eval of request input",
    files={
        "planted.py": (
            "from flask import request\n\n\n"
            "def planted():\n"
            '    return eval(request.args["expression"])\n'
        )
    },
    rules=frozenset({"307"}),
)


def _random(name: str, size: int) -> bytes:
    """The same bytes at each call, which look random to a scanner."""
    return hashlib.shake_256(f"towpath {name}".encode()).digest(size)


def _access_key() -> str:
    return "AK" + "IA" + base64.b32encode(_random("access key", 10)).decode()


def _private_key() -> str:
    body = base64.encodebytes(_random("private key", 400)).decode()
    marks = ["-----{} RSA " + "PRIVATE KEY-----"] * 2
    return "\n".join((marks[0].format("BEGIN"), body.strip(), marks[1].format("END"), ""))


SECRETS = Sample(
    title="a planted private key and a planted access key",
    files={"planted.pem": _private_key(), "planted.ini": f"access_key = {_access_key()}\n"},
    rules=frozenset({"private-key", "aws-access-token"}),
)

WORKFLOW = Sample(
    title="a planted workflow that runs the title of an issue",
    files={
        ".github/workflows/planted.yml": (
            "on: issues\n"
            "jobs:\n"
            "  planted:\n"
            "    runs-on: ubuntu-latest\n"
            "    steps:\n"
            "      - run: echo ${{ github.event.issue.title }}\n"
        )
    },
    rules=frozenset({"zizmor/template-injection"}),
)

_POD = (
    "apiVersion: v1\nkind: Pod\nmetadata:\n  name: planted\nspec:\n  containers:\n"
    "    - name: planted\n      image: planted:1\n      securityContext:\n"
    "        privileged: true\n"
)
#: By Trivy's name of the type of file.
IAC: Mapping[str, Sample] = {
    "dockerfile": Sample(
        title="a planted Dockerfile of an image that runs as root",
        files={"Dockerfile": "FROM planted:1\nUSER root\n"},
        rules=frozenset({"DS002"}),
    ),
    "kubernetes": Sample(
        title="a planted privileged pod",
        files={"planted.yaml": _POD},
        rules=frozenset({"KSV017"}),
    ),
    "helm": Sample(
        title="a planted chart of a privileged pod",
        files={
            "Chart.yaml": "apiVersion: v2\nname: planted\nversion: 0.1.0\n",
            "templates/planted.yaml": _POD.replace("name: planted", "name: {{ .Release.Name }}", 1),
        },
        rules=frozenset({"KSV017"}),
    ),
    "terraform": Sample(
        title="a planted rule that lets the world in",
        files={
            "main.tf": (
                'resource "aws_security_group_rule" "planted" {\n'
                '  type              = "ingress"\n'
                '  cidr_blocks       = ["0.0.0.0/0"]\n'
                "  from_port         = 22\n"
                "  to_port           = 22\n"
                '  protocol          = "tcp"\n'
                '  security_group_id = "planted"\n'
                "}\n"
            )
        },
        rules=frozenset({"AVD-AWS-0107"}),
    ),
    "cloudformation": Sample(
        title="a planted bucket that everyone can read",
        files={
            "planted.yaml": (
                'AWSTemplateFormatVersion: "2010-09-09"\nResources:\n  Planted:\n'
                "    Type: AWS::S3::Bucket\n    Properties:\n      AccessControl: PublicRead\n"
            )
        },
        rules=frozenset({"AVD-AWS-0092"}),
    ),
}


def with_sample(container: dagger.Container, folder: str, sample: Sample) -> dagger.Container:
    """The container with the sample's files in ``folder``."""
    for path, text in sample.files.items():
        container = container.with_new_file(f"{folder}/{path}", text)
    return container


def require(found: Collection[str], sample: Sample, *, scanner: str) -> str:
    """The proof, as the evidence tells it.

    Raises:
        StageErrored: the scanner missed a planted fault, so what it says of the rest is no word.
    """
    if missed := sorted(sample.rules - set(found)):
        raise StageErrored(
            f"{scanner} missed {sample.title}",
            got=f"rules {', '.join(sorted(found)) or 'none'}",
            expected=f"rules {', '.join(missed)} too",
            hint="it does not see what it should here, so a clean result of it says nothing",
        )
    return f"found {sample.title}"
