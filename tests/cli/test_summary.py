def test_the_counts_are_those_of_the_published_model_and_need_no_download(run, monkeypatch) -> None:
    monkeypatch.setenv("FROZENSEG_OFFLINE", "1")
    result = run("summary", "frozenseg_convnext_large.yaml")
    assert result.exit_code == 0, result.output
    assert {"26,497,153", "445,508,081"} <= set(result.output.split())


def test_overrides_count(run) -> None:
    result = run("summary", "shapes", "MODEL.MASK_FORMER.NUM_OBJECT_QUERIES", "31")
    plain = run("summary", "shapes")
    trained = [int(output.split()[-4].replace(",", "")) for output in (result.output, plain.output)]
    assert trained[0] - trained[1] == 2 * 64


def test_an_unknown_key_is_a_sentence(run) -> None:
    result = run("summary", "shapes", "MODEL.SAM", "x")
    assert result.exit_code == 2
    assert "unknown key MODEL.SAM" in result.output
