"""What deploy.py writes into .env, and what it leaves alone."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import given
from hypothesis import strategies as st

from deployment import env_file
from deployment.errors import DeployError

VALUES: dict[str, str | None] = {
    "TASKFLOW_URL": "https://lb.example.com",
    "TASKFLOW_BACKEND": "aws",
}
_NAMES = ["TASKFLOW_URL", "TASKFLOW_BACKEND", "OTHER"]
_PRINTABLE = st.text(
    st.characters(min_codepoint=32, max_codepoint=126, exclude_characters="'\\"), max_size=30
)


def test_other_lines_comments_order_and_line_ends_stay(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    before = (
        "# mine\r\nexport OTHER='a b'  # why\r\nTASKFLOW_URL=old # keep this\r\n\r\n"
        'MULTI="two\r\nlines"\r\nLAST=1'
    )
    file.write_bytes(before.encode())
    changed = env_file.write(file, VALUES)
    after = file.read_bytes().decode()
    assert changed == ["TASKFLOW_URL", "TASKFLOW_BACKEND"]
    kept = before.replace("TASKFLOW_URL=old", "TASKFLOW_URL=https://lb.example.com")
    assert after.startswith(f"{kept}\r\n\r\n# Written by deploy.py")
    assert after.endswith("TASKFLOW_BACKEND=aws\r\n")
    assert env_file.write(file, VALUES) == []
    assert file.read_bytes().decode() == after


def test_the_file_is_readable_by_its_owner_only_also_when_nothing_changes(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    env_file.write(file, VALUES)
    assert file.stat().st_mode & 0o777 == 0o600
    file.chmod(0o644)
    env_file.write(file, VALUES)
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_name_that_is_set_twice_is_set_once_afterwards(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("TASKFLOW_URL=a\nX=1\nTASKFLOW_URL=b\n")
    env_file.write(file, {"TASKFLOW_URL": "c"})
    assert file.read_text() == "TASKFLOW_URL=c\nX=1\n"


def test_what_is_taken_out_leaves_the_rest(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("X=1\n")
    env_file.write(file, VALUES)
    assert env_file.write(file, dict.fromkeys(VALUES)) == list(VALUES)
    assert file.read_text().strip() == "X=1"


def test_a_quote_that_nobody_closes_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("A='open\nTASKFLOW_URL=old\n")
    env_file.write(file, {"TASKFLOW_URL": "new"})
    assert file.read_text() == "A='open\nTASKFLOW_URL=new\n"


@pytest.mark.parametrize("value", ["it's", "a\nb", "a\\b"])
def test_what_not_every_reader_can_read_is_refused(value: str) -> None:
    with pytest.raises(ValueError, match=r"not for an \.env file"):
        env_file.quoted(value)


@pytest.mark.parametrize("open_line", ["Q='a", 'Q="a'])
@pytest.mark.parametrize("rest", ["", "TASKFLOW_URL=old\n"])
def test_a_quote_that_would_be_closed_by_what_is_written_is_refused(
    open_line: str, rest: str, tmp_path: Path
) -> None:
    """It would take our value into its own, for every reader."""
    file = tmp_path / ".env"
    before = f"X='1\n2'\n{open_line}\n{rest}"
    file.write_text(before)
    with pytest.raises(DeployError, match=r"opens a quote .* in line 3 that is never closed"):
        env_file.write(file, {"TASKFLOW_URL": 'a "quoted" word'})
    assert file.read_text() == before


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("X=1\n")
    link = tmp_path / ".env"
    link.symlink_to(tmp_path / "real")
    env_file.write(link, VALUES)
    assert link.is_symlink()
    assert "TASKFLOW_URL=" in (tmp_path / "real").read_text()


def test_a_file_that_cannot_be_written_is_told_and_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / ".env").mkdir()
    with pytest.raises(DeployError, match=r"\.env cannot be written") as failed:
        env_file.write(tmp_path / ".env", VALUES)
    assert "--env-file" in failed.value.next_step
    assert [path.name for path in tmp_path.iterdir()] == [".env"]


@given(value=_PRINTABLE)
def test_every_value_is_read_back_by_dotenv_and_by_a_shell(
    value: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.getbasetemp() / "quoting.env"
    file.unlink(missing_ok=True)
    env_file.write(file, {"OTHER": value})
    assert dotenv_values(file, interpolate=False) == {"OTHER": value}
    assert env_file.read(file) == {"OTHER": value}


def test_a_shell_reads_what_it_wrote(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    values = {"A": 'it; is $HOME `x` "y" #z', "B": "arn:aws:s3:::b/c", "C": ""}
    env_file.write(file, values)
    done = subprocess.run(
        ["sh", "-c", '. "$0"; printf "%s\\0" "$A" "$B" "$C"', file],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\0")[:3] == list(values.values())


_LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [
                "# c",
                "",
                "  ",
                "X=1",
                "export Y='2' # z",
                "not a line",
                "TASKFLOW_URL = old",
                'Q="a',
                "P='b",
            ]
        ),
        st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=20),
    ),
    max_size=8,
)


@given(
    lines=_LINES, values=st.dictionaries(st.sampled_from(_NAMES), st.one_of(st.none(), _PRINTABLE))
)
def test_whatever_a_file_holds_a_second_time_changes_nothing(
    lines: list[str], values: dict[str, str | None]
) -> None:
    try:
        once, _ = env_file.merged("\n".join(lines), values)
    except DeployError:  # of a quote that is left open
        return
    assert env_file.merged(once, values) == (once, [])


def test_a_reader_sees_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("X=1\n")
    opened = file.open()
    env_file.write(file, VALUES)
    with opened:
        assert opened.read() == "X=1\n"  # whoever had it open
    assert os.stat(file).st_nlink == 1
