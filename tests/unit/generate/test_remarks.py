import logging

from skipdit_cli.generate import remarks

CUT = "The following part of your input was truncated because CLIP can only handle 77 tokens: "


class Kept(logging.Handler):
    def __init__(self, told):
        super().__init__()
        self.told = told

    def emit(self, record):
        self.told.append(record.getMessage())


def test_each_kind_is_told_once_and_short(monkeypatch):
    monkeypatch.setattr(remarks, "_BRIEF", remarks.Brief())  # that of the process may know it
    name, told = f"{remarks.LIBRARIES[0]}.pipelines.some", ([], [])
    handlers = [Kept(each) for each in told]  # two: what one of them was told is new to the other
    library, logger = logging.getLogger(remarks.LIBRARIES[0]), logging.getLogger(name)
    logger.setLevel(logging.WARNING)
    for each in handlers:
        library.addHandler(each)
    try:
        with remarks.brief():
            for text in (CUT + "a dog " * 1000, CUT + "a cat", f"{remarks.NEEDLESS} is longer"):
                logger.warning(text)
            logger.warning("of %d\nlines", 2)
            for _ in range(2):
                logger.error("a failure")
        assert [each.filters for each in handlers] == [[], []]
    finally:
        for each in handlers:
            library.removeHandler(each)
    assert told[0] == told[1]
    cut, *others = told[0]
    assert cut.startswith(CUT)
    assert len(cut) < 210
    assert others == ["of 2 lines", "a failure", "a failure"]
