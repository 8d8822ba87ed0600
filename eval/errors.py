"""What goes wrong on the development split, grouped and counted.

    medscenario train data/training/*.jsonl data/training/products/products.jsonl … --folds 2 --predictions target/held-out.jsonl
    python eval/errors.py target/held-out.jsonl > eval/errors.md

The predictions are those that training wrote for the development split: each comes from a model that did not learn from
the text. The test split is not read.
"""

import collections
import csv
import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = ROOT / "target/release/medscenario"
EXAMPLES = 6

# Words around a spurious clause that the codebook says state no use.
NOT_A_USE = {
    "training data or base model": r"训练|语料|数据集|基座|底座|微调|预训练|\btrain|corpus|fine-tun|dataset|data set|pre-?train|base model|built on",
    "plan or hope": r"计划|未来|后续|将来|拟|有望|希望|下一步|\bplan|\bwill\b|later|hope|aims? to|intend|roadmap",
    "test score or award": r"考试|评测|榜|得分|分数|获奖|准确率|exam|benchmark|score|rank|award|accuracy|leaderboard",
    "background of the developer": r"成立|团队|公司|集团|投资|合作|founded|company|team|invest|partner",
}


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def main():
    predictions = {line["id"]: line for line in lines(Path(sys.argv[1]))}
    taxonomy = json.loads(subprocess.run([PROGRAM, "taxonomy", "export"], check=True, capture_output=True, text=True).stdout)
    entries = {entry["id"]: entry for entry in taxonomy["scenarios"]}
    borders = {frozenset((entry["id"], border["neighbour"])) for entry in entries.values() for border in entry["excludes"]}
    texts = [text for path in sorted(ROOT.glob("eval/gold/dev-*.jsonl")) for text in lines(path)]
    coded = collections.defaultdict(set)
    for coder in ("a", "b"):
        for line in lines(ROOT / f"eval/gold/coders/{coder}.jsonl"):
            coded[line["id"]] |= set(line["scenarios"])
    groups, confusions, statuses = collections.defaultdict(list), collections.Counter(), collections.Counter()
    mentions = found = 0
    for text in texts:
        prediction = predictions[text["id"]]
        assigned = {entry["scenario"]: entry for entry in prediction["scenarios"]}
        gold = set(text["scenarios"])
        mentions += len(gold)
        found += len(assigned)
        missed, spurious = gold - assigned.keys(), assigned.keys() - gold
        product = re.sub(r"-en$", "", text["id"])
        if prediction["status"] != text["status"]:
            statuses[text["status"], prediction["status"]] += 1
        for scenario in sorted(missed):
            other = sorted(spurious, key=lambda s: (frozenset((s, scenario)) not in borders, entries[s]["category"] != entries[scenario]["category"], s))
            quote = "; ".join(text["evidence"].get(str(scenario), []))
            if other and frozenset((other[0], scenario)) in borders:
                group = "a neighbour was assigned instead"
                confusions[scenario, other[0]] += 1
            elif other and entries[other[0]]["category"] == entries[scenario]["category"]:
                group = "another scenario of the category was assigned instead"
                confusions[scenario, other[0]] += 1
            elif assigned.keys() & gold:
                group = "one of several mentions was missed"
            elif not assigned:
                group = "nothing was assigned"
            else:
                group = "something else was assigned"
            groups["Missed: " + group].append((text, scenario, quote))
        for scenario in sorted(spurious):
            quote = "; ".join(span["text"] for span in assigned[scenario]["evidence"])
            context = text["text"]
            for span in assigned[scenario]["evidence"][:1]:
                context = text["text"][max(0, span["start"] - 12) : span["end"]]
            kind = next((name for name, words in NOT_A_USE.items() if re.search(words, context, re.IGNORECASE)), None)
            if scenario in coded[product]:
                group = "a coder had assigned it too (dispute about the codebook)"
            elif missed and any(frozenset((scenario, other)) in borders for other in missed):
                group = "instead of a neighbour"
            elif kind:
                group = kind
            elif text["status"] != "coded":
                group = f"the text is {text['status']}"
            else:
                group = "beside right ones, or for no reason that shows"
            groups["Spurious: " + group].append((text, scenario, quote))
    wrong = sum(map(len, groups.values()))
    print("# What goes wrong on the development split\n\nPrinted by `python eval/errors.py target/held-out.jsonl`, which says where the predictions come from.")
    print(f"\n{len(texts)} texts, {mentions} gold mentions, {found} assigned, {wrong} errors. Groups are told by rule: neighbours are the")
    print("borders that the taxonomy names; words around the evidence tell plans, training data, scores and background.")
    print("\n| group | errors | share |\n|---|---|---|")
    for name, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        print(f"| {name} | {len(members)} | {len(members) / max(1, wrong):.0%} |")
    print("\n## Confusions\n\n| gold | assigned instead | times |\n|---|---|---|")
    label = lambda scenario: f"{scenario} {entries[scenario]['name']['en']}"
    for (gold, assigned), times in sorted(confusions.items(), key=lambda item: (-item[1], item[0]))[:20]:
        print(f"| {label(gold)} | {label(assigned)} | {times} |")
    print("\n## Status\n\n| gold | assigned | times |\n|---|---|---|")
    for (gold, assigned), times in sorted(statuses.items(), key=lambda item: (-item[1], item[0])):
        print(f"| {gold} | {assigned} | {times} |")
    print("\n## Examples")
    for name, members in sorted(groups.items(), key=lambda item: (-len(item[1]), item[0])):
        print(f"\n### {name}\n\n| text | scenario | words |\n|---|---|---|")
        step = max(1, len(members) // EXAMPLES)
        for text, scenario, quote in members[::step][:EXAMPLES]:
            print(f"| {text['id']} | {label(scenario)} | {quote.replace('|', '/')} |")


if __name__ == "__main__":
    main()
