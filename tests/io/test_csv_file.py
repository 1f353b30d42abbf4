"""CSV files are written whole or not at all."""

import pytest

from clipes.io.csv_file import write_csv


def rows(fail):
    yield ("a,b", None, 'say "x"')
    if fail:
        raise RuntimeError("no more")
    yield ("\udcff.jpg", 0.5, "é")


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "new" / "t.csv"
    write_csv(file, ("name", "number", "text"), rows(False))
    written = file.read_bytes()
    assert written == b'name,number,text\n"a,b",,"say ""x"""\n\xff.jpg,0.5,\xc3\xa9\n'
    with pytest.raises(RuntimeError, match="no more"):
        write_csv(file, ("other",), rows(True))
    assert file.read_bytes() == written and [path.name for path in file.parent.iterdir()] == ["t.csv"]
