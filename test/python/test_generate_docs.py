"""docs/generate.md and docs/recipes.md: the table of arguments is that of the functions, and every example says what it said."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from databases import Database
from server import BINDIR

TOP = pathlib.Path(__file__).resolve().parents[2]
DOCS = TOP / "docs"
TYPES = {"integer": "int", "double precision": "float8", "integer[]": "int[]"}
CALLS = ("generate", "generate_stream", "generate_many", "generate_tokens", "chat", "generation_options")
OTHERS = {"prompt", "prompts", "tokens", "messages", "user_message", "system", "tools"}


def described():
    """{argument: (type, default)} of the table."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w\[\]]+) \| (\S+) \|.*\S.*\|$", (DOCS / "generate.md").read_text(), re.M)
    return {name: (type, default) for name, type, default in rows}


def test_table_of_arguments(db, conn):
    """Every argument of every generating call is there, with its type and default, and no other."""
    seen = {}
    for name, arguments in conn.all("SELECT proname, pg_get_function_arguments(oid) FROM pg_proc WHERE pronamespace = 'hart'::regnamespace AND proname = ANY (%s)", list(CALLS)):
        given = {a: (TYPES.get(type, type), default and default.split("::")[0])
                 for a, type, default in re.findall(r"(\w+) ([a-z ]+(?:\[\])?)(?: DEFAULT ([^,]+))?(?:, |$)", arguments) if a not in OTHERS}
        assert {a: described()[a] for a in given} == given, name
        assert set(described()) - set(given) <= {"n", "model"}, name
        seen |= given
    assert described() == seen


@pytest.fixture(scope="module")
def demo(db, folders, scratch):
    """What the examples were run in: a database with the demo model alone, and the table of the recipes."""
    own = Database(db.admin, f"hart_docs_{os.getpid()}", folders)
    shutil.copytree(TOP / "demo" / "model", scratch / "model", copy_function=shutil.copyfile)
    with own.connect() as session:
        session.execute("CALL hart.ingest_model(%s)", [str(scratch / "model")])
        session.execute(re.search(r"```sql\n(CREATE TABLE tickets.*?)```", (DOCS / "recipes.md").read_text(), re.S)[1])
    yield own
    own.drop()


def lines(text):
    return [line.rstrip() for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize("document", ["generate.md", "recipes.md"])
def test_examples(demo, document):
    """What psql answers is what stands there."""
    blocks = re.findall(r"^```\n(demo=# .*?)^```", (DOCS / document).read_text(), re.M | re.S)
    assert blocks
    for block in blocks:
        asked = [line for line in block.splitlines() if re.match(r"demo[=*-]+# ", line)]
        statements = "\n".join(re.sub(r"^demo[=*-]+# ", "", line) for line in asked)
        done = subprocess.run([BINDIR / "psql", "-X", demo.dsn], input=statements, check=True, capture_output=True, text=True)
        assert lines(done.stdout) == [line for line in lines(block) if not re.match(r"demo[=*-]+# ", line)]
        assert not done.stderr
