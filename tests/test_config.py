"""config.toml becomes one configuration, or an error that says everything that is wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmbench.config import ConfigError, UnknownProfile, UnknownProvider, load
from llmbench.config.check import check, describe
from llmbench.config.tables import BUILT_IN, HttpTable, ProfileTable, Tables, host_name
from llmbench.messages import Profile
from llmbench.providers.presets import CLOUD_KINDS, PRESETS
from tests.configs import BAD, GOOD, problems, settled, write


@pytest.mark.parametrize("path", sorted(BAD.glob("*.toml")), ids=lambda path: path.stem)
def test_an_invalid_file_is_refused_with_exactly_these_sentences(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file in config_bad is refused, and the message is the text in the file beside it."""
    monkeypatch.chdir(path.parent)

    with pytest.raises(ConfigError) as caught:
        load(Path(path.name), {})

    assert path.with_suffix(".txt").read_text(encoding="utf-8") == f"{caught.value}\n"
    assert caught.value.problems == str(caught.value).split("\n")


def test_every_key_of_a_full_file_takes_effect() -> None:
    """A file that sets every key is loaded with every value of it."""
    config = load(GOOD / "every_key.toml", {})

    assert (config.runner.id, config.runner.region) == ("runner-1", "eu-central-1")
    assert msgspec.structs.astuple(config.schedule) == (60.0, 10.5, "region", 5.0)
    assert config.database == GOOD / "data" / "outcomes.db"
    assert config.store.http == HttpTable(
        url="https://bench.example/ingest",
        key_env="BRIDGE_KEY",
        worklist_url="https://bench.example/runner-config",
        worklist_key_env="BRIDGE_TOKEN",
        ca_file=str(GOOD / "ca.pem"),
    )
    assert (config.spool_folder, config.spool.cap_mb, config.spool.keep_hours) == (GOOD / "data" / "spool", 16, 0.5)
    assert msgspec.structs.astuple(config.server) == ("[::1]:8787", str(GOOD / "data" / "keys.json"), 512, 2.5, 10.0)
    keys = {"sort": "o", "run_now": "ctrl+x,f5", "retry": "ctrl+x", "up": "w", "window": "up"}
    assert msgspec.structs.astuple(config.tui) == ("light", 2.5, keys)
    assert config.profile("long") == Profile(
        id="long",
        version=3,
        prompt="Count from one to ten thousand in words.",
        max_tokens=2048,
        temperature=None,
        reasoning_effort="high",
        timeout_seconds=600,
        idle_timeout_seconds=30,
        connect_timeout_seconds=5,
        token_tolerance=0.25,
        validation_policy="none",
        publish=False,
    )
    openai = config.provider("openai")
    assert openai.enabled
    assert openai.key_required
    assert (openai.kind, openai.base_url) == ("openai", "http://127.0.0.1:9000/openai/v1")
    assert (openai.api_key_env, openai.requests_per_minute, openai.concurrency) == ("GATEWAY_KEY", 0.5, 8)
    assert openai.models == ("gpt-6-luna", "ft:gpt-6-luna:acme::abc/1")
    assert (openai.profile, openai.ca_file) == ("long", GOOD / "ca.pem")
    assert openai.headers == {"X-Team": "benchmarks", "HTTP-Referer": "https://example.com/"}
    assert (openai.responses_prefixes, openai.completions_suffixes) == (("o9",), ())


def test_a_profile_overrides_single_keys_of_the_built_in_one() -> None:
    """Keys that a table leaves out have the built-in profile's values; "unset" takes a parameter out."""
    config = load(GOOD / "every_key.toml", {})

    assert config.profile("default") == msgspec.structs.replace(BUILT_IN["default"], max_tokens=128)
    assert config.profile("reasoning") == msgspec.structs.replace(
        BUILT_IN["reasoning"], temperature=1.0, reasoning_effort=None
    )


def test_a_prompt_may_be_the_word_unset(tmp_path: Path) -> None:
    """Only temperature and effort can be unset; a prompt of that word is a prompt."""
    path = write(tmp_path, '[profiles.odd]\nprompt = "unset"\n')

    assert load(path, {}).profile("odd").prompt == "unset"


def test_an_openai_compatible_provider_takes_four_lines() -> None:
    """Name, kind, base_url and models are enough; the provider is enabled and no key is needed."""
    provider = load(GOOD / "four_lines.toml", {}).provider("my-vllm")

    assert provider.enabled
    assert (provider.api_key_env, provider.key_required) == (None, False)
    assert (provider.base_url, provider.models) == (
        "http://127.0.0.1:8000/v1",
        ("meta-llama/Llama-3.1-8B-Instruct",),
    )
    assert (provider.requests_per_minute, provider.concurrency, provider.profile) == (60.0, 1, "default")


def test_a_table_enables_its_provider() -> None:
    """A table without `enabled` enables; `enabled = false` does not; without a table nothing is scheduled."""
    config = load(GOOD / "every_key.toml", {})

    assert [provider.name for provider in config.enabled_providers()] == [
        "openai",
        "anthropic",
        "bedrock",
        "vertex",
        "groq",
        "local",
    ]
    assert (config.provider("together").configured, config.provider("together").enabled) == (True, False)
    assert (config.provider("cerebras").configured, config.provider("cerebras").enabled) == (False, False)


def test_an_empty_key_variable_means_that_no_key_is_sent() -> None:
    """api_key_env = "" takes the preset's key away, so that a local stand-in needs none."""
    provider = load(GOOD / "every_key.toml", {}).provider("anthropic")

    assert (provider.api_key_env, provider.key_required) == (None, False)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_there_without_any_file(name: str) -> None:
    """A known provider can be asked for by name although nothing configures it."""
    provider = load(None, {}).provider(name)

    assert not provider.enabled
    assert (provider.kind, provider.base_url) == (PRESETS[name].kind, PRESETS[name].base_url)
    assert (provider.api_key_env or "", provider.key_required) == (PRESETS[name].api_key_env, name not in CLOUD_KINDS)


def test_an_empty_file_is_the_built_in_defaults() -> None:
    """Loading nothing and loading an empty file come to the same."""
    assert settled(load(None, {})) == settled(load(GOOD / "empty.toml", {}))


def test_a_file_saved_by_a_windows_editor_is_read() -> None:
    """A byte order mark and CRLF line ends do no harm."""
    assert load(GOOD / "bom_and_crlf.toml", {}).schedule.fresh_minutes == 60


def test_a_path_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A path that doesn't exist, is a directory, lies below a file, or is too long is refused in a sentence."""
    file = write(tmp_path, "")
    missing, below, long = tmp_path / "no.toml", file / "config.toml", tmp_path / ("x" * 300)

    assert problems(missing) == [f"{missing}: does not exist: name a file that does, or name none to use the defaults"]
    assert problems(tmp_path) == [f"{tmp_path}: is a directory: name the file in it, such as '{file}'"]
    assert problems(below) == [f"{below}: can't be read (Not a directory): name a file that can"]
    assert problems(long) == [f"{long}: can't be read (File name too long): name a file that can"]


def test_a_tilde_in_a_path_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """~/x lies in the home folder; the ~ of an unknown user is taken for a file name, as a shell does."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    config = load(write(tmp_path, '[store.sqlite]\npath = "~/a.db"\n'), {})
    assert config.database == tmp_path / "home" / "a.db"

    config = load(write(tmp_path, '[store.sqlite]\npath = "~no-such-user/a.db"\n'), {})
    assert config.database == tmp_path / "~no-such-user" / "a.db"


def test_a_certificate_file_with_an_impossible_name_is_missing(tmp_path: Path) -> None:
    """A name that the file system refuses to look up is reported like a file that isn't there."""
    path = write(tmp_path, f'[providers.groq]\nca_file = "{"x" * 300}"\n')

    [problem] = problems(path)
    assert problem.endswith("no such file can be read: name one with certificates in PEM form")


@pytest.mark.parametrize("wrong", ["key", "junk", "nothing", "revocations"])
def test_a_certificate_file_without_a_certificate_is_refused(wrong: str, tmp_path: Path) -> None:
    """A private key, anything else, nothing at all, or only a list of what was revoked can't verify a connection."""
    ca = trustme.CA()
    data = {"key": ca.private_key_pem.bytes(), "junk": b"\xff\x00", "nothing": b"", "revocations": revocations(ca)}
    (tmp_path / "ca.pem").write_bytes(data[wrong])
    path = write(tmp_path, '[providers.groq]\nca_file = "ca.pem"\n')

    [problem] = problems(path)
    assert problem == (
        f"{path}: providers.groq.ca_file is 'ca.pem', and no certificate can be read from that file: "
        "name one with certificates in PEM form"
    )


def revocations(ca: trustme.CA) -> bytes:
    """Return the authority's list of revoked certificates, in PEM form."""
    key = serialization.load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    builder = x509.CertificateRevocationListBuilder().issuer_name(
        x509.load_pem_x509_certificate(ca.cert_pem.bytes()).subject
    )
    signed = builder.last_update(now).next_update(now + timedelta(days=1)).sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.8.8.8:1234", "[::1]:8000"])
def test_a_key_may_go_to_this_machine_in_the_clear(host: str, tmp_path: Path) -> None:
    """http:// with a key is accepted for loopback hosts."""
    path = write(tmp_path, f'[providers.groq]\nbase_url = "http://{host}/v1/"\n')

    assert load(path, {}).provider("groq").base_url == f"http://{host}/v1"


@pytest.mark.parametrize("host", ["0.0.0.0", "localhost.example.com", "127.0.0.1.example.com", "[::]", "10.1.2.3"])
def test_a_key_may_not_cross_a_network_in_the_clear(host: str, tmp_path: Path) -> None:
    """http:// with a key is refused for every other host, and accepted once there is no key."""
    table = f'[providers.groq]\nbase_url = "http://{host}/v1"\n'

    [problem] = problems(write(tmp_path, table))
    assert "in the clear: use https://" in problem
    assert load(write(tmp_path, table + 'api_key_env = ""\n'), {}).provider("groq").api_key_env is None


def test_an_unknown_provider_is_answered_with_the_nearest() -> None:
    """The error names what was probably meant, and all that there is."""
    with pytest.raises(UnknownProvider) as caught:
        load(GOOD / "four_lines.toml", {}).provider("My-VLM")

    assert caught.value.name == "My-VLM"
    assert str(caught.value).startswith("provider 'My-VLM' is unknown: use 'my-vllm' (known are 'openai', ")


def test_an_unknown_profile_is_answered_with_the_nearest() -> None:
    """The error names what was probably meant, or else all that there is."""
    with pytest.raises(UnknownProfile) as caught:
        load(None, {}).profile("resoning")
    assert str(caught.value) == "profile 'resoning' is unknown: use 'reasoning'"

    with pytest.raises(UnknownProfile) as caught:
        load(None, {}).profile("xyz")
    assert (caught.value.name, str(caught.value)) == (
        "xyz",
        "profile 'xyz' is unknown: use 'default' or 'reasoning'",
    )


def test_a_missing_key_is_reported_for_each_enabled_provider(tmp_path: Path) -> None:
    """Each enabled provider whose key variable isn't set is named, with the file, the key and the variable."""
    path = write(tmp_path, "[providers.groq]\n[providers.openai]\n[providers.together]\nenabled = false\n")
    env = {"OPENAI_API_KEY": "abc"}

    [problem] = load(path, env).start_problems(env)
    assert problem == (
        f"{path}: providers.groq.api_key_env: environment variable 'GROQ_API_KEY' is not set: "
        "set it to the key, or take the provider out with enabled = false"
    )
    [problem] = load(None, {"BENCHMARK_PROVIDERS": "groq"}).start_problems({"GROQ_API_KEY": "gsk-\n-123"})
    assert problem.startswith("providers.groq.api_key_env: environment variable 'GROQ_API_KEY' holds a character that")
    [problem] = load(None, {"BENCHMARK_PROVIDERS": "groq"}).start_problems({})
    assert problem.startswith("providers.groq.api_key_env: environment variable 'GROQ_API_KEY' is not set")
    assert load(GOOD / "four_lines.toml", {}).start_problems({}) == ()


def test_the_secret_variables_are_those_of_every_provider() -> None:
    """The redactor gets the key variables of presets and tables, and those of the stores, each once."""
    variables = load(GOOD / "every_key.toml", {}).secret_variables()

    assert {"GATEWAY_KEY", "LOCAL_KEY", "OPENAI_API_KEY", "GROQ_API_KEY", "MONGODB_URI"} <= set(variables)
    assert len(variables) == len(set(variables))


@pytest.mark.parametrize("name", ["", "...", "Bob\u2019s Mac", "-a", "a" * 300, "h_1.example.com"])
def test_any_host_name_makes_a_runner_id(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default id is one that the file would accept, whatever the machine is called."""
    monkeypatch.setattr("platform.node", lambda: name)

    path = write(tmp_path, f'[runner]\nid = "{host_name()}"\n')

    assert load(path, {}).runner == load(None, {}).runner


texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)
known_keys = st.sampled_from(
    sorted({*Tables.__struct_fields__, *ProfileTable.__struct_fields__, "groq", "openai", "x"})
)
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.datetimes()
    | st.sampled_from(["unset", "low"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(known_keys | texts, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(known_keys | texts, values, max_size=5))
def test_any_document_is_checked_without_an_exception(document: dict[str, Any]) -> None:
    """Whatever a file holds, there is one printable sentence for each problem, and the rest makes a configuration."""
    tables, found = check(document, Tables)

    assert isinstance(tables, Tables)
    assert all(f"{problem.key} {problem.text}".isprintable() for problem in found)
    assert len({problem.key for problem in found}) == len(found)


def test_every_value_of_a_table_is_described_in_words() -> None:
    """A type that says nothing of its limits can't be put into a table unnoticed."""
    with pytest.raises(TypeError, match="has no words: give it Meta"):
        describe(str)


def test_a_file_that_is_nested_beyond_reading_is_refused(tmp_path: Path) -> None:
    """A document that would exhaust the parser's stack is a problem of the file, not a crash."""
    path = write(tmp_path, f"x = {'[' * 20_000}")

    [problem] = problems(path)
    assert problem.startswith(f"{path}: ")
    assert len(problem) < 500


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(st.binary(max_size=60) | texts.map(str.encode) | st.sampled_from([b"a." * 5000, b"\xff"]))
def test_any_bytes_are_a_configuration_or_an_error(tmp_path: Path, data: bytes) -> None:
    """A file of any bytes is loaded or refused with a ConfigError; nothing else is ever raised."""
    path = tmp_path / "config.toml"
    path.write_bytes(data)

    try:
        found = [] if load(path, {}).source == path else ["another file was loaded"]
    except ConfigError as error:
        found = error.problems

    assert all(problem.startswith(f"{path}: ") for problem in found)
