"""The chart that is published: its image, its changes, its key."""

from __future__ import annotations

import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from release import chart, versions
from release.changelog import CHANGES_MAX, Section
from release.chart import Key
from release.command import ROOT, ReleaseError, find, run

VALUES = (ROOT / "helm" / "tidegate" / "values.yaml").read_text()
CHART: dict[str, Any] = yaml.safe_load((ROOT / "helm" / "tidegate" / "Chart.yaml").read_text())
DIGEST = f"sha256:{'a1' * 32}"
IMAGE = f"registry.example.com:5000/some/tidegate@{DIGEST}"
SECTION = Section("1.2.3", "2026-12-01", "### Fixed\n\n- It's `a: b`.\n")
KEY = Key("me@example.com", "/keyring", "C0FFEE", "https://example.com/key.asc")


def test_the_image_is_changed_and_nothing_else() -> None:
    before, after = (yaml.safe_load(text) for text in (VALUES, chart.with_image(VALUES, IMAGE)))
    assert after["image"].pop("repository") == "registry.example.com:5000/some/tidegate"
    assert after["image"].pop("digest") == DIGEST
    assert before["image"].pop("digest") == ""
    assert before["image"].pop("repository") != ""
    assert after == before


@pytest.mark.parametrize(
    "image",
    ["tidegate", "tidegate:1", "tidegate@sha256:12", f"{IMAGE}0", f"a\nb@{DIGEST}", f"@{DIGEST}"],
)
def test_an_image_without_a_digest_is_refused(image: str) -> None:
    with pytest.raises(ReleaseError, match="is not of the form"):
        chart.with_image(VALUES, image)


def test_values_of_another_form_are_refused() -> None:
    with pytest.raises(ReleaseError, match="no empty `digest`"):
        chart.with_image("\nimage:\n  repository: a\n\nb: c\n", IMAGE)


def test_annotations_of_a_release() -> None:
    made = chart.release_annotations(SECTION, IMAGE, KEY)
    assert {name.partition("/")[2]: yaml.safe_load(text) for name, text in made.items()} == {
        "changes": [{"kind": "fixed", "description": "It's `a: b`."}],
        "images": [
            {"name": "tidegate", "image": IMAGE, "platforms": ["linux/amd64", "linux/arm64"]}
        ],
        "signKey": {"fingerprint": "C0FFEE", "url": "https://example.com/key.asc"},
    }


def test_a_long_list_of_changes_ends_with_how_many_more() -> None:
    text = "### Added\n" + "- One.\n" * (CHANGES_MAX + 3)
    made = chart.release_annotations(Section("1.0.0", None, text))
    changes = yaml.safe_load(made["artifacthub.io/changes"])
    assert len(changes) == CHANGES_MAX + 1
    assert changes[-1]["description"] == "3 more: CHANGELOG.md"


def test_a_key_is_taken_whole_or_not_at_all() -> None:
    whole = {f"CHART_SIGN_{name.upper()}": value for name, value in KEY._asdict().items()}
    assert chart.key(whole) == KEY
    assert chart.key({"CHART_SIGN_NAME": "", "PATH": "/bin"}) is None
    for name in whole:
        with pytest.raises(ReleaseError, match=f"{name} missing"):
            chart.key(whole | {name: ""})


@pytest.mark.parametrize("name", ["links", "crds", "crdsExamples"])
def test_annotations_are_yaml_of_lists(name: str) -> None:
    listed = yaml.safe_load(CHART["annotations"][f"artifacthub.io/{name}"])
    assert isinstance(listed, list)
    assert listed


def test_the_described_crd_is_the_one_of_the_chart() -> None:
    (path,) = (ROOT / "helm" / "tidegate" / "crds").iterdir()
    crd = yaml.safe_load(path.read_text())
    (described,) = yaml.safe_load(CHART["annotations"]["artifacthub.io/crds"])
    (example,) = yaml.safe_load(CHART["annotations"]["artifacthub.io/crdsExamples"])
    assert described["name"] == crd["metadata"]["name"]
    assert described["kind"] == example["kind"] == crd["spec"]["names"]["kind"]
    assert [described["version"]] == [one["name"] for one in crd["spec"]["versions"]]
    assert example["apiVersion"] == f"{crd['spec']['group']}/{described['version']}"


def test_addresses_are_of_files_that_are_there() -> None:
    """They are of the main branch, so a file that is renamed must be renamed there, too."""
    links = yaml.safe_load(CHART["annotations"]["artifacthub.io/links"])
    urls = [CHART["icon"], *(link["url"] for link in links)]
    repository = versions.repositories()["helm/tidegate/Chart.yaml, sources"]
    paths = [url.partition("/main/")[2] for url in urls if "/main/" in url]
    assert len(paths) >= 4
    assert [path for path in paths if not (ROOT / path).is_file()] == []
    assert all(repository.removeprefix("https://github.com") in url for url in urls)


@pytest.mark.full
@pytest.mark.real("helm")
def test_the_packed_chart_installs_the_image_of_the_release(tmp_path: Path) -> None:
    made = chart.package(tmp_path / "out", tmp_path / "work", SECTION, image=IMAGE)
    with tarfile.open(made) as archive:
        inside = {member.name: archive.extractfile(member) for member in archive}
        read = {name: file.read().decode() for name, file in inside.items() if file is not None}
    described = yaml.safe_load(read["tidegate/Chart.yaml"])
    assert described["version"] == described["appVersion"] == versions.version()
    (change,) = yaml.safe_load(described["annotations"]["artifacthub.io/changes"])
    assert change == {"kind": "fixed", "description": "It's `a: b`."}
    assert described["annotations"].keys() > CHART["annotations"].keys()
    # What is made from the values says the same as they do.
    assert f'`"{DIGEST}"`' in read["tidegate/README.md"]
    image = json.loads(read["tidegate/values.schema.json"])["properties"]["image"]["properties"]
    assert image["digest"]["default"] == DIGEST
    assert read.keys() >= {"tidegate/crds/gateways.tidegate.dev.yaml", "tidegate/values.yaml"}


@pytest.mark.full
@pytest.mark.real("helm")
def test_a_signed_chart_is_verified_with_the_key_that_it_names(tmp_path: Path) -> None:
    if (gpg := find("gpg")) is None:
        pytest.skip("no gpg here (Debian: apt-get install gnupg)")
    home, secret, public = (tmp_path / name for name in ("home", "secret.gpg", "public.gpg"))
    home.mkdir(mode=0o700)
    words = (gpg, "--homedir", home, "--batch", "--pinentry-mode", "loopback", "--passphrase", "")
    try:
        run(*words, "--quick-generate-key", KEY.name, "rsa3072", "sign", "never")
        run(*words, "--output", secret, "--export-secret-keys")
        run(*words, "--output", public, "--export")
        listed = run(*words, "--list-keys", "--with-colons")
    finally:
        run("gpgconf", "--homedir", home, "--kill", "all")
    (fingerprint,) = re.findall(r"^fpr:+([0-9A-F]{40}):", listed, re.MULTILINE)
    key = Key(KEY.name, str(secret), fingerprint, KEY.url)
    made = chart.package(tmp_path / "out", tmp_path / "work", SECTION, signed_by=key)
    helm = find("helm")
    assert helm is not None
    assert fingerprint in run(helm, "verify", made, "--keyring", public)
    described = yaml.safe_load(run(helm, "show", "chart", made))
    named = yaml.safe_load(described["annotations"]["artifacthub.io/signKey"])
    assert named == {"fingerprint": fingerprint, "url": KEY.url}
