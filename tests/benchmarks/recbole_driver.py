"""RecBole in an environment of its own: ``python recbole_driver.py JSON`` trains and scores, and prints its seconds.

It knows nothing of this project: the rows are read from atomic files, all else is in the argument.
"""

import json
import resource
import sys
import time


def main():
    asked = json.loads(sys.argv[1])
    import torch

    torch.set_num_threads(asked["threads"])
    load = torch.load
    torch.load = lambda *words, **named: load(*words, **(named | {"weights_only": False}))  # as RecBole expects it
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    sys.argv = sys.argv[:1]  # it reads the command line too
    settings = {
        "data_path": asked["folder"], "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id_list", "item_id"]}, "alias_of_item_id": ["item_id_list"],
        "USER_ID_FIELD": "user_id", "ITEM_ID_FIELD": "item_id", "LIST_SUFFIX": "_list",
        "ITEM_LIST_LENGTH_FIELD": "item_length", "MAX_ITEM_LIST_LENGTH": 20, "loss_type": "CE",
        "train_neg_sample_args": None, "metrics": ["Hit", "NDCG"], "topk": [10], "valid_metric": "NDCG@10",
        "eval_args": {"split": {"LS": "valid_and_test"}, "order": "TO", "mode": "full", "group_by": "user"},
        "use_gpu": False, "gpu_id": "", "show_progress": False, "state": "ERROR", "reproducibility": True, "seed": 42,
        "checkpoint_dir": asked["folder"] + "/saved",
    }  # fmt: skip
    config = Config(model=asked["model"], dataset=asked["category"], config_dict=settings | asked["settings"])
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    train, valid, test = data_preparation(config, dataset)
    model = get_model(config["model"])(config, train.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    found = {"epoch": [], "valid": [], "score": [], "rows": len(train.dataset), "items": dataset.item_num - 1}
    for number in range(asked["epochs"]):
        found["epoch"].append(timed(lambda number=number: trainer._train_epoch(train, number, show_progress=False)))
        found["valid"].append(timed(lambda: trainer._valid_epoch(valid, show_progress=False)))
    found["score"].append(timed(lambda: trainer.evaluate(test, load_best_model=False, show_progress=False)))
    found["parameters"] = sum(p.numel() for p in model.parameters())
    found["peak GiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(json.dumps(found))


def timed(work):
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
