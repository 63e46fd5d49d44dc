"""What `make docs` takes from outside docs/: pages, pictures, help and settings.

README.md, CONTRIBUTING.md and CHANGELOG.md are pages of the site; the pictures of results/tiny and
results/study are copied into it. A link that leads to another file of the repository becomes its
name.
"""

import posixpath
import re
from pathlib import Path

import typer
from mkdocs.structure.files import File

from skipdit_cli import registry
from skipdit_cli.cli import command_line

SETTINGS = """### {name}

::: skipdit_cli.caches.{stem}
    options: {{members: [Config], heading_level: 4, show_root_heading: false}}
"""
ROOT = Path(__file__).parents[1]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "extending.md", "CHANGELOG.md": "changelog.md"}


def on_files(files, *, config):
    """Add the pages and pictures to those of docs/."""
    taken = PAGES | {f"results/{name}": name for name in _pictures()}
    for source, target in taken.items():
        files.append(File.generated(config, target, abs_src_path=str(ROOT / source)))
    return files


def _pictures():
    """Of results that are committed: tiny/demo.png, study/training/digits/training.png."""
    root = ROOT / "results"
    found = [*root.glob("tiny/*.png"), *root.glob("study/**/*.png")]
    return [path.relative_to(root).as_posix() for path in found]


def on_page_markdown(markdown, *, page, config, files):
    """Mend the links of a page, and put in what is made."""
    source = Path(page.file.abs_src_path).relative_to(ROOT).as_posix()
    parts = re.split(r"(^```.*?^```)", markdown, flags=re.DOTALL | re.MULTILINE)
    for i in range(0, len(parts), 2):  # every other one is code
        parts[i] = re.sub(
            r"\[([^\]\[]*)\]\(([^)\s]+)\)",
            lambda link: _moved(link[1], link[2], source=source, page=page.file.src_uri),
            parts[i],
        )
    markdown = "".join(parts)
    for name, made in {"commands": _commands, "settings": _settings}.items():
        if (mark := f"<!-- {name} -->") in markdown:
            markdown = markdown.replace(mark, "\n".join(made()))
    return markdown


def _moved(text, target, *, source, page):
    """A link of a file of the repository, as it has to be on a page of the site."""
    if "://" in target or target.startswith("#"):
        return f"[{text}]({target})"
    path, mark, anchor = target.partition("#")
    path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
    path = f"docs/{PAGES[path]}" if path in PAGES else path
    if path.endswith(".png"):
        path = path.replace("results/", "docs/")
    if not path.startswith("docs/"):
        return text
    path = posixpath.relpath(path.removeprefix("docs/"), posixpath.dirname(page) or ".")
    return f"[{text}]({path}{mark}{anchor})"


def _commands():
    """Every command's help, under a heading each."""
    main = command_line()
    yield from _told(main.commands, "skipdit")


def _told(group, before):
    for name, command in sorted(group.items()):
        whole = f"{before} {name}"
        if hasattr(command, "commands"):
            yield from _told(command.commands, whole)
            continue
        context = typer.Context(command, info_name=whole, max_content_width=96)
        yield f"## {whole}\n\n```text\n{command.get_help(context).strip()}\n```\n"


def _settings():
    """What each caching method is and its settings, from its file."""
    for name in registry.names("caches"):
        yield SETTINGS.format(name=name, stem=name.replace("-", "_"))
