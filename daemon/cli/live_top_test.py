#!/usr/bin/env python3
"""The picture of `moetrace top` fits the terminal.

usage: live_top_test.py BIN_DIR    (unittest options may follow)
"""

import json

import cli_case
from live_case import LiveCase


class TopTest(LiveCase):
    def test_top_fits_the_terminal(self):
        replay, segment = self.live_replay()
        for rows, columns in ((24, 80), (4, 120), (10, 20)):
            lines = self.top_picture(rows, columns)
            self.assertEqual(len(lines), min(rows - 1, 5))  # two header lines and three layers
            self.assertLessEqual(max(map(len, lines)), columns)
        replay.kill()

    def test_top_fits_with_many_experts_and_layers(self):
        """Three long ids with two-digit shares in each layer, and a model name that is too long."""
        with open(self.path("wide.jsonl"), "w", encoding="utf-8") as file:
            file.write(
                json.dumps(
                    {
                        "type": "meta",
                        "model_id": "m" * 60,
                        "top_k": 3,
                        "layers_logged": list(range(94)),
                    }
                )
                + "\n"
            )
            for layer in range(94):
                file.write(
                    json.dumps(
                        {
                            "type": "route",
                            "req_id": "a",
                            "token_idx": 0,
                            "layer": layer,
                            "topk_ids": [127, 126, 125],
                            "topk_weights": [0.5, 0.3, 0.2],
                        }
                    )
                    + "\n"
                )
        self.moetrace("replay", "--num-experts", "128", "--rate", "1e9", "wide.jsonl")
        for columns in (None, 120, 80, 72, 30):
            if columns is None:
                lines = self.moetrace("top", "--once").splitlines()
            else:
                top, terminal = self.top_on_terminal(24, columns, "--once")
                with open(terminal, "rb", buffering=0) as output:
                    text = b""
                    while text.count(b"\n") < 96:  # two header lines and the layers
                        text += output.read(4096)
                self.assertEqual(top.wait(timeout=60), 0)
                lines = text.decode().splitlines()
            self.assertEqual(len(lines), 96)
            self.assertLessEqual(max(map(len, lines)), columns or 80)
            if columns != 30:
                self.assertIn("  step 1", lines[0])
                for line in lines[2:]:  # the last cell holds the last experts
                    self.assertRegex(line, r"  125:33\.3  126:33\.3  127:33\.3 +█\Z")
        lines = self.top_picture(24, 80)
        self.assertEqual((len(lines), lines[-1]), (23, "(74 more lines)"))
        self.assertLessEqual(max(map(len, lines)), 80)


if __name__ == "__main__":
    cli_case.main()
