from pathlib import Path

import pytest

from agents import vedette
from publishers import NOW
from vedette.contract.errors import SigningError
from vedette_exporter.signing.keys import ROLES, KeyFolder, Role, in_days

LATER = in_days(NOW, 365)


def test_every_role_has_a_key_of_its_own_that_only_its_owner_reads(tmp_path: Path) -> None:
    root = KeyFolder(tmp_path / "keys").create(LATER)
    private = sorted((tmp_path / "keys").glob("*.pem"))
    assert [path.name.partition("-")[0] for path in private] == ["online", "root", "targets"]
    assert {path.stat().st_mode & 0o777 for path in private} == {0o600}
    assert len(root.keys) == 3 and all(root.roles[duty].threshold == 1 for duties in ROLES.values() for duty in duties)


def test_a_passphrase_is_needed_to_sign_again_and_the_wrong_one_does_not_do(tmp_path: Path) -> None:
    KeyFolder(tmp_path, b"correct horse").create(LATER)
    assert b"ENCRYPTED" in next(tmp_path.glob("root-*.pem")).read_bytes()
    KeyFolder(tmp_path, b"correct horse").rotate("online", LATER)
    with pytest.raises(SigningError, match="the passphrase does not open it"):
        KeyFolder(tmp_path, b"wrong").rotate("online", LATER)
    with pytest.raises(SigningError, match="is encrypted, and no passphrase was given"):
        KeyFolder(tmp_path).rotate("online", LATER)


def test_a_passphrase_for_keys_that_have_none_is_said(tmp_path: Path) -> None:
    KeyFolder(tmp_path).create(LATER)
    with pytest.raises(SigningError, match="is not encrypted, but a passphrase was given"):
        KeyFolder(tmp_path, b"x").renew(LATER)


@pytest.mark.parametrize("role", ROLES)
def test_a_rotation_replaces_one_key_and_forgets_the_old_one(tmp_path: Path, role: Role) -> None:
    folder = KeyFolder(tmp_path)
    before = folder.create(LATER)
    after = folder.rotate(role, LATER)
    changed = {other for other, duties in ROLES.items() if before.roles[duties[0]].keyids != after.roles[duties[0]].keyids}
    assert (changed, after.version) == ({role}, 2)
    assert len(list(tmp_path.glob("*.pem"))) == 3
    for other in ROLES:
        assert folder.signer(other)


def test_a_root_that_is_renewed_has_the_same_keys_and_expires_later(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    before = folder.create(LATER)
    after = folder.renew(in_days(NOW, 500))
    assert (after.keys, after.version, after.expires) == (before.keys, 2, in_days(NOW, 500))
    assert (tmp_path / "root.json").read_bytes() == (tmp_path / "2.root.json").read_bytes()


def test_keys_are_never_overwritten(tmp_path: Path) -> None:
    KeyFolder(tmp_path).create(LATER)
    with pytest.raises(SigningError, match="has keys already; vedette keys rotate replaces one"):
        KeyFolder(tmp_path).create(LATER)


def test_a_root_key_that_is_kept_elsewhere_is_asked_for_only_when_a_root_is_made(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    folder.create(LATER)
    next(tmp_path.glob("root-*.pem")).unlink()
    assert folder.signer("targets")
    with pytest.raises(SigningError, match=r"root-.*\.pem: the root key is needed for this: .*; put it back"):
        folder.rotate("targets", LATER)


def test_power_that_fails_in_a_rotation_leaves_keys_that_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = KeyFolder(tmp_path)
    folder.create(LATER)
    monkeypatch.setattr(KeyFolder, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        folder.rotate("root", LATER)
    monkeypatch.undo()
    assert folder.rotate("root", LATER).version == 2


def test_the_command_makes_rotates_and_renews(tmp_path: Path) -> None:
    secret = tmp_path / "passphrase"
    secret.write_text("correct horse\n")
    made = vedette("keys", "create", tmp_path / "keys", "--passphrase-file", secret)
    assert made.returncode == 0, made.stderr
    assert "encrypted with your passphrase" in made.stdout and "copy" in made.stdout
    rotated = vedette("keys", "rotate", "root", "--keys", tmp_path / "keys", "--passphrase-file", secret)
    assert rotated.returncode == 0, rotated.stderr
    assert "new" in rotated.stdout.splitlines()[0] and "version 2" in rotated.stdout
    refused = vedette("keys", "renew", "--keys", tmp_path / "keys")
    assert refused.returncode == 1 and "no passphrase was given" in refused.stderr and len(refused.stderr.splitlines()) == 1
    assert vedette("keys", "rotate", "king", "--keys", tmp_path / "keys").returncode == 2
