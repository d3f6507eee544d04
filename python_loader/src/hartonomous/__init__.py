"""Client of Hartonomous, the PostgreSQL extension that runs language models.

    from hartonomous import Client

    with Client("dbname=demo") as client:
        client.ingest("/srv/models/qwen2.5-0.5b")
        print(client.generate("The database").text)
"""

from ._client import Client
from ._results import Generation, Model, Progress, Token

__all__ = ["Client", "Generation", "Model", "Progress", "Token"]
