"""Shared by the checks inside vLLM on a CPU: recorded rows beside transformers on the same tokens.

Every row's experts are compared, as sets, and its weights within 1e-5.
"""

import collections
import functools
import sys

import small_models
import torch
from vllm_case import VllmCase, model_folder


@functools.cache
def reference(kind):
    return small_models.load(model_folder(kind))


def routing(kind, tokens):
    """{layer: (ids, weights)} of transformers for one sequence: what the routers return."""
    model, seen, handles = reference(kind), {}, []
    for index, layer in enumerate(model.model.layers):
        experts = getattr(layer.mlp, "experts", None)
        if experts is not None:

            def keep(_module, args, kwargs, index=index):
                values = [*args, *kwargs.values()]
                seen[index] = (values[1], values[2])

            handles.append(experts.register_forward_pre_hook(keep, with_kwargs=True))
    with torch.no_grad():
        model(torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    return seen


class ReferenceCase(VllmCase):
    figures = collections.Counter()  # of all checks together
    worst = 0.0

    def compare(self, lines, answers, kind="Qwen2Moe", layers=(0, 2, 3), factor=1.0):
        """Checks each row of `answers` in a trace. Returns {request: its route lines}. factor: of
        transformers' weights."""
        self.assertEqual(tuple(lines[0]["layers_logged"]), tuple(layers))
        self.assertEqual(lines[-1]["status"], "closed")
        rows = collections.defaultdict(list)
        for line in lines:
            if line["type"] == "route":
                rows[line["req_id"]].append(line)
        self.assertEqual(set(rows), {answer["id"] for answer in answers})
        for answer in answers:
            self.compare_request(kind, layers, answer, rows[answer["id"]], factor)
        return rows

    def compare_request(self, kind, layers, answer, rows, factor):
        known = answer["prompt"] + answer["tokens"]
        last = len(known) - 2  # the last token is never fed
        expected = routing(kind, known)
        for layer in layers:
            positions = sorted({row["token_idx"] for row in rows if row["layer"] == layer})
            if answer["whole"]:
                self.assertEqual(positions, list(range(answer["cached"], last + 1)), answer["id"])
            else:
                self.assertEqual(positions, list(range(len(positions))), answer["id"])
                self.assertGreaterEqual(len(positions), len(known) - 1)
        for row in rows:
            if row["token_idx"] > last:
                self.assertFalse(answer["whole"])
                continue  # sampled after the last token that the client saw
            ids, weights = (values[row["token_idx"]] for values in expected[row["layer"]])
            got = dict(zip(row["topk_ids"], row["topk_weights"]))
            self.assertEqual(set(got), set(ids.tolist()), f"{answer['id']} {row}")
            for expert, weight in zip(ids.tolist(), (factor * weights).tolist()):
                ReferenceCase.worst = max(ReferenceCase.worst, abs(got[expert] - weight))
                self.assertLess(abs(got[expert] - weight), 1e-5)
        self.figures["rows"] += len(rows)


def print_figures():
    print(
        f"{ReferenceCase.figures['rows']:,} rows compared; "
        f"weights differ by at most {ReferenceCase.worst:.1e}",
        file=sys.stderr,
    )
