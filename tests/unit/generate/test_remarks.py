import logging

from skipdit_cli.generate import remarks

CUT = "The following part of your input was truncated because CLIP can only handle 77 tokens: "


def test_each_kind_is_told_once_and_short(monkeypatch):
    monkeypatch.setattr(remarks, "_BRIEF", remarks.Brief())  # that of the process may know it
    name, told = f"{remarks.LIBRARIES[0]}.pipelines.some", []
    handler = logging.Handler()
    handler.emit = lambda record: told.append(record.getMessage())
    library, logger = logging.getLogger(remarks.LIBRARIES[0]), logging.getLogger(name)
    logger.setLevel(logging.WARNING)
    library.addHandler(handler)
    try:
        with remarks.brief():
            for text in (CUT + "a dog " * 1000, CUT + "a cat", f"{remarks.NEEDLESS} is longer"):
                logger.warning(text)
            logger.warning("of %d\nlines", 2)
            for _ in range(2):
                logger.error("a failure")
        assert handler.filters == []
    finally:
        library.removeHandler(handler)
    cut, *others = told
    assert cut.startswith(CUT)
    assert len(cut) < 210
    assert others == ["of 2 lines", "a failure", "a failure"]
