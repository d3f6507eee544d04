"""The program that lays out neighbourhood charts with UMAP.

hart.learn_geometry runs it as a process of its own, perhaps with another Python than the server's; it imports nothing
of this package.

Its argument is the number of an open file with one line of JSON (points, neighbors, axes, seeds, min_dist, epochs)
and then, little-endian, the neighbours of each point (points × neighbors int32, itself first; -1 for none) and their
cosine distances (float32). For each seed it writes a layout (points × axes float32) to standard output; its progress
goes to standard error. It ends when its standard input does: then the server's process is gone.
"""

import json
import os
import sys
import threading


def end_with_parent():
    """Nothing is ever written to standard input: reading it returns when the other end is closed."""
    os.read(0, 1)  # not through sys.stdin, whose lock would be held when the interpreter ends
    os._exit(1)


def read_task(file):
    """The settings, and the two arrays."""
    import numpy

    task = json.loads(file.readline())
    shape = task["points"], task["neighbors"]
    arrays = [numpy.frombuffer(file.read(4 * shape[0] * shape[1]), dtype).reshape(shape) for dtype in ("<i4", "<f4")]
    return task, arrays


def lay_out(task, neighbors, distances, seed):
    """McInnes, Healy and Melville, "UMAP" (2018), on a graph of nearest neighbours that is there already."""
    import numpy
    from umap.umap_ import find_ab_params, fuzzy_simplicial_set, simplicial_set_embedding

    def random_state():
        return numpy.random.RandomState(seed)

    # Begun at random: a spectral layout of a large graph may fail, and charts that begin differently miss other
    # neighbours.
    begin = random_state().normal(size=(task["points"], task["axes"])).astype(numpy.float32)
    graph = fuzzy_simplicial_set(
        begin, task["neighbors"], random_state(), "cosine", knn_indices=neighbors, knn_dists=distances
    )[0]
    a, b = find_ab_params(1.0, task["min_dist"])
    # Without `parallel` the layout depends on the seed alone.
    return simplicial_set_embedding(
        begin,
        graph,
        task["axes"],
        1.0,
        a,
        b,
        1.0,
        5,
        task["epochs"],
        begin,
        random_state(),
        "cosine",
        {},
        False,
        {},
        False,
        parallel=False,
        verbose=True,
        tqdm_kwds={"desc": "Epochs completed", "file": sys.stderr, "mininterval": 1.0},
    )[0]


def main():
    threading.Thread(target=end_with_parent, daemon=True).start()
    # What libraries print must not get between the numbers.
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with os.fdopen(int(sys.argv[1]), "rb") as file:
        task, arrays = read_task(file)
    for chart, seed in enumerate(task["seeds"], 1):
        print(f"chart {chart} of {len(task['seeds'])}", flush=True)
        output.write(lay_out(task, *arrays, seed).astype("<f4").tobytes())
    output.close()


if __name__ == "__main__":
    main()
