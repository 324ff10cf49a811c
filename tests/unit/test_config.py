"""``dekctl.toml``: the defaults of the contract, and what is taken and refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from dekctl.config import TableConfig, load_config
from dekctl.errors import UsageError

MINIMAL = '[env.x]\ndatabase_url = "sqlite:///app.db"\n'


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "dekctl.toml"


def test_the_defaults_are_the_seeds_names(write: Path) -> None:
    write.write_text(MINIMAL)
    config = load_config(write, environ={})
    table = config.table
    assert table == TableConfig()
    assert (table.name, table.primary_key) == ("encrypted_files", ("id",))
    assert (table.plaintext_column, table.plaintext_encoding) == ("encryption_key", "raw")
    assert (table.wrapped_column, table.version_column) == ("wrapped_key", "wrapped_key_version")
    assert (table.kek_column, table.context_name) == ("kek_id", "encrypted_files")
    assert (config.env.provider, config.env.backup_retention_days) == ("aws", 0)


def test_the_example_of_the_contract_is_taken(write: Path) -> None:
    write.write_text(
        """
        [table]
        name = "encrypted_files"
        primary_key = ["tenant", "id"]
        plaintext_column = "encryption_key"
        plaintext_encoding = "base64"
        wrapped_column = "wrapped_key"
        version_column = "wrapped_key_version"
        kek_column = "kek_id"
        context_name = "encrypted_files"

        [env.bench]
        database_url = "postgresql+psycopg://app:word@db/app"
        provider = "aws"
        region = "us-east-1"
        endpoint_url = "http://127.0.0.1:4566"
        terraform = "terraform/environments/staging"
        backup_retention_days = 35
        """
    )
    env = load_config(write, environ={}).env
    assert env.backup_retention_days == 35
    assert env.terraform == write.parent / "terraform/environments/staging"
    assert env.url().host == "db"


def test_an_external_id_is_taken_from_the_environment_and_is_no_pattern(write: Path) -> None:
    write.write_text(MINIMAL + 'external_id = "env:EXTERNAL_ID"\n')
    assert load_config(write, environ={"EXTERNAL_ID": "dekctl-x"}).env.external_id == "dekctl-x"
    with pytest.raises(UsageError, match="external_id"):
        load_config(write, environ={"EXTERNAL_ID": "dekctl-*"})


def test_file_and_environment_are_found_in_this_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    two = '[env.a]\ndatabase_url = "{0}a"\n[env.b]\ndatabase_url = "{0}b"\n'
    for name in ("dekctl", "named", "set"):
        (tmp_path / f"{name}.toml").write_text(two.format(f"sqlite:///{name}-"))
    environ = {"DEKCTL_ENV": "a"}

    def database(path: str | None, env: str | None, variables: dict[str, str]) -> str:
        return load_config(path, env, variables).env.database_url

    assert database(None, None, environ) == "sqlite:///dekctl-a"
    assert database(None, "b", environ) == "sqlite:///dekctl-b"
    assert database(None, None, {**environ, "DEKCTL_CONFIG": "set.toml"}) == "sqlite:///set-a"
    assert database("named.toml", None, {**environ, "DEKCTL_CONFIG": "x"}) == "sqlite:///named-a"


def test_a_value_may_come_from_the_environment(write: Path) -> None:
    write.write_text('[env.x]\ndatabase_url = "env:URL"\nkek = "env:KEK"\n')
    env = load_config(write, environ={"URL": "sqlite:///x", "KEK": "alias/k"}).env
    assert (env.database_url, env.kek) == ("sqlite:///x", "alias/k")
    with pytest.raises(UsageError, match="KEK, which is not set"):
        load_config(write, environ={"URL": "sqlite:///x"})


def test_a_value_of_the_table_may_come_from_the_environment(write: Path) -> None:
    write.write_text(
        '[table]\nname = "env:TABLE"\ncontext_name = "env:CONTEXT"\nprimary_key = ["env:KEY"]\n'
        'rows_per_branch_key = "env:ROWS"\ndek_bytes = ["env:SIZE", 32]\n'
        'kek_by = { column = "env:OWNER", keks = { a = "env:KEK" } }\n' + MINIMAL
    )
    environ = {"TABLE": "files", "CONTEXT": "the files", "KEY": "uuid", "ROWS": "500"}
    environ |= {"SIZE": "16", "OWNER": "tenant", "KEK": "alias/a"}
    table = load_config(write, environ=environ).table
    assert (table.name, table.context_name, table.primary_key) == ("files", "the files", ("uuid",))
    assert (table.rows_per_branch_key, table.dek_bytes) == (500, (16, 32))
    assert table.kek_by is not None
    assert (table.kek_by.column, table.kek_by.keks) == ("tenant", (("a", "alias/a"),))
    for variable in environ:
        without = {name: value for name, value in environ.items() if name != variable}
        with pytest.raises(UsageError, match=f"{variable}, which is not set"):
            load_config(write, environ=without)


def test_the_name_of_a_local_kek_is_no_variable(write: Path) -> None:
    kek = "env:0123456789abcdef"
    write.write_text(f'[table]\nkek = "{kek}"\n' + MINIMAL)
    assert load_config(write, environ={}).table.kek == kek
    keks = f'kek_by = {{ column = "tenant", keks = {{ a = "{kek}" }} }}'
    write.write_text(f"[table]\n{keks}\n" + MINIMAL)
    assert load_config(write, environ={}).table.keks == (kek,)


def test_a_number_may_come_from_the_environment(write: Path) -> None:
    write.write_text(
        MINIMAL + 'backup_retention_days = "env:DAYS"\nlock_timeout_seconds = "env:LOCK"\n'
    )
    env = load_config(write, environ={"DAYS": "35", "LOCK": "1.5"}).env
    assert (env.backup_retention_days, env.lock_timeout_seconds) == (35, 1.5)
    for wrong in ("3.5", "soon", "-1"):
        with pytest.raises(UsageError, match="backup_retention_days"):
            load_config(write, environ={"DAYS": wrong, "LOCK": "1"})
    for wrong in ("nan", "inf", "0", "x"):
        with pytest.raises(UsageError, match="lock_timeout_seconds"):
            load_config(write, environ={"DAYS": "1", "LOCK": wrong})


def test_an_empty_choice_of_the_environment_is_none(write: Path) -> None:
    write.write_text('[env.a]\ndatabase_url = "a"\n[env.b]\ndatabase_url = "b"\n')
    with pytest.raises(UsageError, match="no environment is chosen"):
        load_config(write, environ={"DEKCTL_ENV": ""})
    with pytest.raises(UsageError, match="no environment is chosen"):
        load_config(write, "", environ={})
    assert load_config(write, "", environ={"DEKCTL_ENV": "b"}).env.name == "b"


def test_the_database_url_shows_in_no_repr(write: Path) -> None:
    write.write_text('[env.x]\ndatabase_url = "postgresql://app:s3cretword@db/app"\n')
    config = load_config(write, environ={})
    assert "s3cretword" not in repr(config) + str(config.env) + repr(config.env.url())


@pytest.mark.parametrize(
    "text",
    [
        'env = "x"\n',
        "[[env.x]]\n",
        "table = 3\n[env.x]\n",
        "[table]\nprimary_key = [1]\n[env.x]\n",
        '[table]\nprimary_key = ""\n[env.x]\n',
        '[table]\nname = ""\n[env.x]\n',
        f'[table]\ncontext_name = "{"c" * 256}"\n[env.x]\n',
        f"[env.{'e' * 65}]\n",
        "[table]\nname = 7\n[env.x]\n",
        "[table]\ndek_bytes = [0]\n[env.x]\n",
        '[table]\ndek_bytes = ["x"]\n[env.x]\n',
        "[env.x]\nbackup_retention_days = -1\n",
        "[env.x]\nbackup_retention_days = true\n",
        '[env.x]\nbackup_retention_days = "3"\n',
        "[env.x]\nlock_timeout_seconds = 0\n",
        '[env.x]\nkek = "a"\nterraform = "b"\n',
        '[[table]]\nname = "a"\n[[table]]\nname = "a"\ncontext_name = "b"\n[env.x]\n',
        '[[table]]\nname = "a"\n[[table]]\nname = "b"\n[env.x]\n',
        '[[table]]\nname = "a"\ncontext_name = "app.files"\n'
        '[[table]]\nname = "b"\ncontext_name = "app_files"\n[env.x]\n',
    ],
)
def test_a_wrong_value_is_refused_with_a_hint(write: Path, text: str) -> None:
    write.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_config(write, environ={})
    assert caught.value.hint


def test_one_column_needs_no_list_and_a_schema_is_split_off(write: Path) -> None:
    write.write_text('[table]\nname = "app.files"\nprimary_key = "uuid"\n' + MINIMAL)
    table = load_config(write, environ={}).table
    assert (table.primary_key, table.schema, table.bare_name) == (("uuid",), "app", "files")


def test_a_file_that_is_not_text_is_named(write: Path) -> None:
    write.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"dekctl\.toml"):
        load_config(write, environ={})
    with pytest.raises(UsageError, match="cannot read"):
        load_config(write.parent, environ={})


def test_a_database_whose_variable_is_not_set_is_refused_only_where_it_is_needed(
    write: Path,
) -> None:
    """An application has an engine of its own."""
    write.write_text('[env.test]\nprovider = "memory"\ndatabase_url = "env:APP_DATABASE"\n')
    env = load_config(write, environ={}).env
    with pytest.raises(UsageError, match="APP_DATABASE, which is not set"):
        env.url()
    assert (
        load_config(write, environ={"APP_DATABASE": "sqlite:///a.db"}).env.url().database == "a.db"
    )


def test_what_a_plaintext_counts_for_is_one_of_three_words(write: Path) -> None:
    write.write_text(MINIMAL)
    assert load_config(write, environ={}).table.plaintext is None
    write.write_text('[table]\nplaintext = "refuse"\n' + MINIMAL)
    assert load_config(write, environ={}).table.plaintext == "refuse"
    write.write_text('[table]\nplaintext = "no"\n' + MINIMAL)
    with pytest.raises(UsageError, match=r"plaintext in .* write, read, refuse"):
        load_config(write, environ={})
