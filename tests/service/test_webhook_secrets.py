"""Every key has a secret of its own, in the store; it can be learned, rotated, and told from all others."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from standardwebhooks import Webhook, WebhookVerificationError
from typer.testing import CliRunner

from cli.main import app
from jobs import keys
from jobs.api_keys import Scope
from jobs.settings import ServiceSettings
from jobs.webhook_secrets import INSTALLATION
from service.webhooks.secrets import FILENAME, signers
from tests.service.conftest import Api, running_api

BODY = '{"type":"job.completed"}'
PATH = "/v1/webhooks/secret"


def made(character: str) -> str:
    return "whsec_" + base64.b64encode(character.encode() * 32).decode()


def is_signed(api: Api, owner: str, secret: str) -> bool:
    """Whether what is sent to an owner can be verified with a secret, by a receiver's library."""
    now = datetime.now(UTC)
    signatures = [signer.sign("msg_1", now, BODY) for signer in signers(api.context, owner)]
    headers = {
        "webhook-id": "msg_1",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
    try:
        Webhook(secret).verify(BODY, headers)
    except WebhookVerificationError:
        return False
    return True


def secret_of(api: Api, headers: dict[str, str] | None = None) -> Any:
    answer = api.http.get(PATH, headers=headers)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def rotate(api: Api, headers: dict[str, str] | None = None, **body: int) -> Any:
    answer = api.http.post(f"{PATH}/rotate", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_a_key_cannot_forge_what_another_one_receives(api_with_keys: Api) -> None:
    one, one_headers = api_with_keys.make_key()
    other, other_headers = api_with_keys.make_key()
    secret, others = (secret_of(api_with_keys, headers)["secret"] for headers in (one_headers, other_headers))
    assert secret != others
    assert is_signed(api_with_keys, one.id, secret)
    assert is_signed(api_with_keys, other.id, others)
    assert not is_signed(api_with_keys, one.id, others)
    assert not is_signed(api_with_keys, other.id, secret)


def test_the_secret_is_for_those_who_may_submit(api_with_keys: Api) -> None:
    _, reader = api_with_keys.make_key(Scope.READ)
    assert api_with_keys.http.get(PATH).status_code == 401
    assert api_with_keys.http.get(PATH, headers=reader).status_code == 403
    assert api_with_keys.http.post(f"{PATH}/rotate", json={}, headers=reader).status_code == 403


def test_processes_share_the_secret_of_the_installation(settings: ServiceSettings) -> None:
    """Each replica has a data folder of its own."""
    elsewhere = settings.model_copy(update={"data_dir": settings.data_dir / "other"})
    with running_api(settings) as one, running_api(elsewhere) as other:
        secret = secret_of(one)["secret"]
        assert secret_of(other)["secret"] == secret
        assert len(base64.b64decode(secret.removeprefix("whsec_"))) == 32
        assert is_signed(other, INSTALLATION, secret)
    assert not (settings.data_dir / FILENAME).exists()


def test_the_old_secret_signs_too_while_receivers_change(api_with_keys: Api) -> None:
    key, headers = api_with_keys.make_key()
    old = secret_of(api_with_keys, headers)["secret"]
    new = rotate(api_with_keys, headers, overlap_seconds=60)
    assert new["num_previous"] == 1
    assert is_signed(api_with_keys, key.id, new["secret"])
    assert is_signed(api_with_keys, key.id, old)
    newest = rotate(api_with_keys, headers, overlap_seconds=0)
    assert newest["num_previous"] == 0
    assert is_signed(api_with_keys, key.id, newest["secret"])
    for leaked in (old, new["secret"]):
        assert not is_signed(api_with_keys, key.id, leaked)


@pytest.mark.parametrize("body", [{"overlap_seconds": -1}, {"overlap_seconds": "x"}, {"days": 3}])
def test_a_rotation_that_makes_no_sense_is_refused(api: Api, body: dict[str, Any]) -> None:
    answer = api.http.post(f"{PATH}/rotate", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


class TestUpgrade:
    """An installation with the secret of all in a file, and keys that have none."""

    def upgraded(self, api: Api, file_secret: str) -> tuple[str, dict[str, str]]:
        key, headers = api.make_key()
        api.context.client.hdel(keys.WEBHOOK_SECRETS(), key.id)
        api.context.settings.data_dir.mkdir(parents=True, exist_ok=True)
        (api.context.settings.data_dir / FILENAME).write_text(file_secret)
        return key.id, headers

    def test_receivers_verify_with_what_they_have(self, api_with_keys: Api) -> None:
        file_secret = made("f")
        old_key, headers = self.upgraded(api_with_keys, file_secret)
        new_key, _ = api_with_keys.make_key()
        assert is_signed(api_with_keys, INSTALLATION, file_secret)
        assert is_signed(api_with_keys, old_key, file_secret)
        assert not is_signed(api_with_keys, new_key.id, file_secret)
        # Who asks is not told the secret of all, and it goes on signing.
        own = secret_of(api_with_keys, headers)
        assert own["secret"] != file_secret
        assert own["num_previous"] == 1
        assert is_signed(api_with_keys, old_key, own["secret"])
        assert is_signed(api_with_keys, old_key, file_secret)
        # Until it is rotated.
        rotate(api_with_keys, headers, overlap_seconds=0)
        assert not is_signed(api_with_keys, old_key, file_secret)
        assert is_signed(api_with_keys, INSTALLATION, file_secret)

    def test_the_files_of_several_replicas_sign(self, settings: ServiceSettings) -> None:
        elsewhere = settings.model_copy(update={"data_dir": settings.data_dir / "other"})
        with running_api(settings) as one, running_api(elsewhere) as other:
            key, _ = self.upgraded(one, made("a"))
            self.upgraded(other, made("b"))
            for api in (one, other, one):
                signers(api.context, INSTALLATION)
            for secret in (made("a"), made("b")):
                assert is_signed(one, key, secret)
                assert is_signed(other, INSTALLATION, secret)

    def test_a_secret_that_was_rotated_does_not_come_back(self, api: Api) -> None:
        self.upgraded(api, made("f"))
        assert is_signed(api, INSTALLATION, made("f"))
        api.context.webhook_secrets.rotate(INSTALLATION, overlap=timedelta())
        assert not is_signed(api, INSTALLATION, made("f"))


def test_a_secret_that_the_operator_set_is_not_rotated_here(settings: ServiceSettings) -> None:
    given = settings.model_copy(
        update={"webhook_secret": SecretStr(made("n")), "webhook_old_secrets": (SecretStr(made("o")),)}
    )
    with running_api(given) as api:
        found = secret_of(api)
        assert (found["secret"], found["num_previous"]) == (made("n"), 1)
        answer = api.http.post(f"{PATH}/rotate", json={})
        assert answer.status_code == 409
        assert "DOVETAIL_WEBHOOK_SECRET" in answer.json()["detail"]


def test_operators_see_and_rotate_secrets(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOVETAIL_REDIS_URL", api.context.settings.redis_url)
    runner = CliRunner()

    def run(*arguments: str) -> str:
        result = runner.invoke(app, ["keys", "webhook-secret", *arguments])
        assert result.exit_code == 0, result.output
        return result.stdout.strip()

    key, _ = api.make_key()
    shared, own = run(), run(key.id)
    assert is_signed(api, INSTALLATION, shared)
    assert is_signed(api, key.id, own)
    rotated = run(key.id, "--rotate", "--overlap-hours", "0")
    assert is_signed(api, key.id, rotated)
    assert not is_signed(api, key.id, own)
    assert runner.invoke(app, ["keys", "webhook-secret", "key_none"]).exit_code == 2
