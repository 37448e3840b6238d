"""Options are typed whole; one that there is not is named, with those that may have been meant."""

import pytest

from advcam.cli import main
from advcam.cli.parser import parser


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["classify", "--out", "runs/x"], "there is no option --out; did you mean --run or --output-stride"),
        (["run", "--run", "runs/x"], "there is no option --run; did you mean --out"),
        (["run", "--ou=runs/x"], "there is no option --ou; did you mean --out or --output-stride"),
        (["climb", "--run", "runs/x", "--step", "3"], "there is no option --step; did you mean --steps"),
        (["refine", "--run", "runs/x", "--thresh", "0.3"], "there is no option --thresh; did you mean --threshold"),
        (["predict", "--mod", "m"], "there is no option --mod; did you mean --model"),
        (["data", "check", "--label", "x"], "there is no option --label; did you mean --labels"),
        (["report", "--no-such-thing"], "there is no option --no-such-thing; see --help-all"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_an_option_is_not_abbreviated(words, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 2
    assert said in capsys.readouterr().err


def test_an_option_of_the_whole_is_not_abbreviated_either(capsys):
    with pytest.raises(SystemExit):
        main(["--vers"])
    assert "0." not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--version"])
    assert "advcam" in capsys.readouterr().out


def test_every_parser_wants_whole_options():
    def parsers(one):
        yield one
        for action in one._actions:
            if action.nargs == "A...":
                for below in {*action.choices.values()}:
                    yield from parsers(below)

    found = [*parsers(parser(True))]
    assert len(found) > 20
    assert not any(one.allow_abbrev for one in found)


def test_what_follows_two_dashes_is_no_option(capsys):
    with pytest.raises(SystemExit):
        main(["study", "--run", "x", "--", "--out"])
    assert "there is no option" not in capsys.readouterr().err
