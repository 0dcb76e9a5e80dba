"""The plant's side."""

from __future__ import annotations

import time

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from plainapp.task import WINDOWS, Net, test, train, windows

app = ClientApp()


def _loaded(message: Message) -> Net:
    net = Net()
    net.load_state_dict(message.content["arrays"].to_torch_state_dict())
    return net


@app.train()
def fit(message: Message, context: Context) -> Message:
    """Train on the plant's windows."""
    net, data = _loaded(message), windows(int(context.node_config["partition-id"]))
    begin = time.perf_counter()
    loss = train(net, data)
    metrics = {"train_loss": loss, "seconds": time.perf_counter() - begin, "num-examples": WINDOWS}
    records = {"arrays": ArrayRecord(net.state_dict()), "metrics": MetricRecord(metrics)}
    return Message(RecordDict(records), reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """Judge the global model on the plant's windows."""
    loss = test(_loaded(message), windows(int(context.node_config["partition-id"])))
    metrics = MetricRecord({"eval_loss": loss, "num-examples": WINDOWS})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
