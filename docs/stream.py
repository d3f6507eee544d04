"""Print a continuation while the model writes it: python stream.py "postgresql:///demo" "The database" [max_tokens]"""

import sys

import psycopg


def main(dsn, prompt, max_tokens=64):
    # A cursor with a name stays in the server: a row is made when it is fetched. itersize is how many are fetched at a time.
    with psycopg.connect(dsn) as connection, connection.cursor(name="answer") as cursor:
        cursor.itersize = 1
        cursor.execute("SELECT piece FROM hart.generate_stream(%s, %s)", [prompt, int(max_tokens)])
        for (piece,) in cursor:
            print(piece, end="", flush=True)
    print()


if __name__ == "__main__":
    main(*sys.argv[1:])
