#!/usr/bin/env python3
"""Laneway from Python, with nothing but nats-py (pip install nats-py).

    client.py [--nats URL] [--model MODEL] [--prefix PREFIX]

Creates a session, asks and waits for the answer, asks again while the tokens stream in, cancels a run in mid-stream, and
reads the thread.
"""

import argparse
import asyncio
import json
import uuid

import nats

ACTOR = {"id": "client.py", "kind": "service"}
LONG = "Tell me a long story about a lighthouse, its keeper, and a storm. " * 4


class LanewayError(Exception):
    """An error of the service: a stable code, a message, and details."""

    def __init__(self, error: dict):
        super().__init__(f"{error['code']}: {error['message']}")
        self.code = error["code"]
        self.details = error.get("details")


class Laneway:
    """The requests that this example needs. Every request is JSON to `<prefix>.<name>`, every reply is JSON."""

    def __init__(self, connection: nats.NATS, prefix: str):
        self.connection = connection
        self.prefix = prefix

    async def request(self, name: str, body: dict, patience: float = 10.0) -> dict:
        """Sends a request. For up to `patience` seconds a request that nobody took (no leader just now, or a service
        that restarts) is sent again: with its ids fixed by the caller it is done once."""
        end = asyncio.get_running_loop().time() + patience
        while True:
            try:
                reply = await self.connection.request(f"{self.prefix}.{name}", json.dumps(body).encode(), timeout=patience)
                answer = json.loads(reply.data)
                if "error" not in answer:
                    return answer
                error = LanewayError(answer["error"])
            except nats.errors.NoRespondersError:
                error = LanewayError({"code": "unavailable", "message": f"nobody answers {name}"})
            if error.code != "unavailable" or asyncio.get_running_loop().time() > end:
                raise error
            await asyncio.sleep(0.2)

    async def tokens(self, run_id: str):
        """Subscribes to the tokens of a run. To be called before the run is submitted: the stream is live."""
        return await self.connection.subscribe(f"{self.prefix}.tokens.{run_id}")


async def chunks(subscription):
    """The chunks of a run up to its end. When an attempt is given up and another begins, it begins again at `start`."""
    highest = 0
    async for message in subscription.messages:
        chunk = json.loads(message.data)
        if chunk["epoch"] < highest:
            continue
        highest = chunk["epoch"]
        yield chunk
        if chunk["kind"] == "end" and chunk["data"]["outcome"] != "queued":
            break
    await subscription.unsubscribe()


async def main(arguments: argparse.Namespace) -> None:
    connection = await nats.connect(arguments.nats)
    laneway = Laneway(connection, arguments.prefix)

    # The ids are ours, so that every request can be sent again.
    session_id = str(uuid.uuid4())
    created = await laneway.request(
        "sessions.create",
        {
            "session_id": session_id,
            "model_id": arguments.model,
            "memory_policy": "SESSION_SCOPED",
            "instructions": "You are a helpful assistant. Answer briefly.",
        },
    )
    print(f"session {session_id} is {created['session']['state']}")

    # One request, one answer.
    submit = {"run_id": str(uuid.uuid4()), "session_id": session_id, "input": "What is a lighthouse?"}
    answer = await laneway.request("runs.submit", {**submit, "wait": True}, patience=120)
    print(f"answer: {answer['output']}")
    again = await laneway.request("runs.submit", {**submit, "wait": True}, patience=120)
    print(f"sent again: repeated is {again['repeated']}, the answer is the same: {again['output'] == answer['output']}")

    # The tokens while they come.
    run_id = str(uuid.uuid4())
    stream = await laneway.tokens(run_id)
    await laneway.request("runs.submit", {"run_id": run_id, "session_id": session_id, "input": "And who works there?"})
    print("stream: ", end="")
    async for chunk in chunks(stream):
        if chunk["kind"] == "text":
            print(chunk["data"], end="", flush=True)
        elif chunk["kind"] == "end":
            print(f"\n        {chunk['data']['outcome']}, {chunk['data']['usage']['output_tokens']} tokens")

    # A cancel in mid-stream: the connection to the provider is closed, what came so far is kept.
    run_id = str(uuid.uuid4())
    stream = await laneway.tokens(run_id)
    await laneway.request("runs.submit", {"run_id": run_id, "session_id": session_id, "input": LONG})
    seen = 0
    async for chunk in chunks(stream):
        seen += chunk["kind"] == "text"
        if chunk["kind"] == "text" and seen == 3:
            await laneway.request("runs.cancel", {"run_id": run_id, "actor": ACTOR, "reason": "enough"})
    ended = await laneway.request("runs.wait", {"run_id": run_id}, patience=60)
    print(f"cancel: the run is {ended['run']['state']} after {seen} pieces")

    # The truth: the thread.
    thread = await laneway.request("sessions.messages", {"session_id": session_id, "with_content": True})
    for message in thread["messages"]:
        text = " ".join((message.get("content") or "").split())
        finish = f" ({message['finish']})" if message.get("finish") else ""
        print(f"{message['seq']:>3} {message['role']:<9} {text[:70]}{finish}")
    await connection.drain()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nats", default="nats://127.0.0.1:4222", help="the URL of NATS [default: %(default)s]")
    parser.add_argument("--model", default="echo/delay=30", help="the model of the session [default: %(default)s]")
    parser.add_argument("--prefix", default="laneway", help="the first token of every subject [default: %(default)s]")
    asyncio.run(main(parser.parse_args()))
