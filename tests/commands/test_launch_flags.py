"""The command line: our flags, and those of the ecosystem's reference engine."""

import pytest

from engine.launch_flags import NO_EFFECT, NO_EFFECT_WITH_VALUE, parse_serve


def test_defaults_are_loopback_and_a_first_picture():
    launch = parse_serve([])
    assert (launch.config.listen, launch.config.port) == ("127.0.0.1", 8188)
    assert launch.opens_browser
    assert launch.makes_first_picture
    assert launch.notes == ()


@pytest.mark.parametrize("name", sorted(NO_EFFECT))
def test_foreign_switch_is_accepted_and_named(name: str):
    notes = parse_serve([f"--{name}"]).notes
    assert len(notes) == 1
    assert f"--{name}: no effect here" in notes[0]


@pytest.mark.parametrize("name", sorted(NO_EFFECT_WITH_VALUE))
def test_foreign_setting_is_accepted_and_named(name: str):
    assert f"--{name}: no effect here" in parse_serve([f"--{name}", "1"]).notes[0]


def test_mapped_flags_reach_the_configuration():
    launch = parse_serve(
        [
            "--listen",
            "--port",
            "9000",
            "--cpu",
            "--base-directory",
            "/a",
            "--output-directory",
            "/b",
            "--cache-lru",
            "3",
            "--force-fp32",
            "--preview-method",
            "none",
            "--max-upload-size",
            "5",
            "--disable-metadata",
            "--disable-all-custom-nodes",
            "--disable-auto-launch",
        ]
    )
    config = launch.config
    assert (config.listen, config.port, config.device) == ("0.0.0.0", 9000, "cpu")
    assert str(config.output_dir).endswith("b")
    assert str(config.input_dir).endswith("input")
    assert (config.memory_cache_entries, config.precision) == (3, "fp32")
    assert (config.preview_method, config.max_upload_mb) == ("none", 5)
    assert not config.saves_metadata
    assert not config.load_packs
    assert not launch.opens_browser
    assert not config.is_loopback


def test_cache_none_switches_the_cache_off():
    assert not parse_serve(["--cache-none"]).config.use_cache


def test_unknown_flag_is_refused(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse_serve(["--no-such-flag"])
    assert ended.value.code == 2
    assert "--no-such-flag" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--port", "65536"], ["--port", "-1"], ["--port", "x"], ["--tls-keyfile", "key.pem"]]
)
def test_flags_that_cannot_be_met_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended:
        parse_serve(flags)
    assert ended.value.code == 2
    assert flags[0] in capsys.readouterr().err
