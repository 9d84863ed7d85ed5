"""Deploys the stacks to the emulator with deploy/deploy.py, runs the daemon against them with deploy/routes.aws.toml, and
looks whether an entry, a refusal and an exit reach every service, and another server's card this one.

    smoke.py TURNSTILED     the binary; MOTO_SERVER in the environment names the emulator

What the emulator does not make of the templates is listed at the end: it has been checked by cfn-lint alone.
"""

import collections
import contextlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import uuid

import boto3
import botocore.exceptions
import duckdb

import metric_names
import templates

TIMEOUT_SECONDS = 60
POLL_SECONDS = 0.1
SERVER, BUILDINGS = "hq-1", ["hq", "annex"]


def main(binary):
    with contextlib.ExitStack() as stack:
        directory = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="turnstiled-smoke-")))
        # nothing of this machine's own AWS settings, and nothing that leads anywhere but to the emulator
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TURNSTILED_"))}
        environment |= {"AWS_ACCESS_KEY_ID": "emulator", "AWS_SECRET_ACCESS_KEY": "emulator", "AWS_REGION": "eu-central-1",
                        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_CONFIG_FILE": "/dev/null", "NO_PROXY": "127.0.0.1"}
        environment["AWS_ENDPOINT_URL"] = stack.enter_context(emulator())
        os.environ.clear()
        os.environ.update(environment)
        deploy(directory)
        for line in (directory / "turnstiled.env").read_text().splitlines():
            name, _, value = line.partition("=")
            os.environ[name] = value
        subscriptions = subscribe()
        configuration = configure(directory)
        for command in ("check", "test-routes"):
            subprocess.run([binary, command, "--config", configuration], check=True, stdout=subprocess.DEVNULL)
        passages(binary, configuration)
        archive = download(directory)
        views(archive)
        forgotten = not_kept()
    unmade = missing(stacks_made=STACKS)
    print("\nThe emulator has no such types, so cfn-lint alone has looked at them:")
    for kind, count in sorted(unmade.items()):
        print(f"  {count:3} {kind}")
    print(f"  the access stack as a whole: its outputs are of AWS::RolesAnywhere\n"
          f"Made by the API instead: {subscriptions} subscriptions, with the filters of their templates.\n"
          f"Taken and forgotten: {', '.join(forgotten) or 'nothing of what was asked for'}. IAM is not enforced.")
    print("smoke: 1 passed, 0 failed")


@contextlib.contextmanager
def emulator():
    """A moto_server on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    program = os.environ.get("MOTO_SERVER", "moto_server")
    server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        until("the emulator answers", lambda: request("GET", f"{url}/moto-api/")[0] == 200)
        yield url
    finally:
        server.kill()
        server.wait()


# By stack, the template that it is of and the types that the emulator has made of it.
STACKS = {}


def deploy(directory):
    arguments = ["--server", SERVER, "--card-sync", "--firehose", "--env-file", directory / "turnstiled.env"]
    for building in BUILDINGS:
        arguments += ["--building", building]
    # the third time for one building more or less, and nothing else is said: the rest stays
    less = ["--server", SERVER, "--building", BUILDINGS[-1], "--env-file", directory / "turnstiled.env"]
    variables = set()
    for said in arguments, arguments, less:
        subprocess.run([sys.executable, templates.ROOT / "deploy/deploy.py", *said], check=True)
        variables.add((directory / "turnstiled.env").read_text())
        for stack in boto3.client("cloudformation").describe_stacks()["Stacks"]:
            name = stack["StackName"].removeprefix("turnstiled-")
            template = next(template for template in templates.names() if name.startswith(template))
            made = boto3.client("cloudformation").describe_stack_resources(StackName=stack["StackName"])["StackResources"]
            STACKS[name] = (template, collections.Counter(r.get("ResourceType") for r in made if r.get("PhysicalResourceId")))
    assert len(variables) == 1, f"another run wrote other variables: {variables}"
    query = boto3.client("cloudformation").describe_stacks(StackName="turnstiled-query")["Stacks"][0]
    [known] = [parameter["ParameterValue"] for parameter in query["Parameters"] if parameter["ParameterKey"] == "Buildings"]
    assert sorted(known.split(",")) == sorted([*BUILDINGS, "_server"]), f"the archive is asked for {known} only"


def missing(stacks_made):
    """Types of the templates that are not there, by how often."""
    unmade = collections.Counter()
    for template, made in stacks_made.values():
        resources = templates.load(template)["Resources"].values()
        # AlarmEmail is empty
        wanted = collections.Counter(resource["Type"] for resource in resources if "Condition" not in resource)
        unmade += wanted - made
    return unmade


def not_kept():
    """What the templates say of the stream, the archive and the table, and the emulator has not."""
    s3, archive = boto3.client("s3"), {"Bucket": os.environ["TURNSTILED_BUCKET"]}
    stream = boto3.client("kinesis").describe_stream_summary(StreamName=os.environ["TURNSTILED_STREAM"])["StreamDescriptionSummary"]
    of_table = {"TableName": os.environ["TURNSTILED_TABLE"]}
    state = boto3.client("dynamodb").describe_table(**of_table)["Table"]
    backups = boto3.client("dynamodb").describe_continuous_backups(**of_table)["ContinuousBackupsDescription"]
    kept = {
        "the stream's mode": stream["StreamModeDetails"]["StreamMode"] == "ON_DEMAND",
        "the stream's encryption": stream.get("EncryptionType") == "KMS",
        "the bucket's versioning": s3.get_bucket_versioning(**archive).get("Status") == "Enabled",
        "the bucket's encryption": answers(s3.get_bucket_encryption, **archive),
        "the bucket's lifecycle": answers(s3.get_bucket_lifecycle_configuration, **archive),
        "the bucket's block of public access": answers(s3.get_public_access_block, **archive),
        "the bucket's logging": "LoggingEnabled" in s3.get_bucket_logging(**archive),
        "the bucket's inventory": answers(s3.get_bucket_inventory_configuration, Id="weekly", **archive),
        "the table's key": state.get("SSEDescription", {}).get("SSEType") == "KMS",
        "the table's stream": state.get("StreamSpecification", {}).get("StreamEnabled") is True,
        "the table's protection": state.get("DeletionProtectionEnabled") is True,
        "the table's backups": backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED",
    }
    return [name for name, is_kept in kept.items() if not is_kept]


def answers(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError:
        return False
    return True


def subscribe():
    """What the emulator does not make of the templates and the daemon's messages need."""
    account = boto3.client("sts").get_caller_identity()["Account"]
    wanted = [("building", {"Building": building}, building) for building in BUILDINGS]
    wanted.append(("card-sync", {"Server": SERVER}, f"{SERVER}-cards"))
    for template, parameters, queue in wanted:
        known = parameters | {"Name": "turnstiled", "TopicArn": os.environ["TURNSTILED_TOPIC_ARN"]}
        properties = templates.load(template)["Resources"]["Subscription"]["Properties"]
        boto3.client("sns").subscribe(
            TopicArn=known["TopicArn"],
            Protocol=properties["Protocol"],
            Endpoint=f"arn:aws:sqs:eu-central-1:{account}:turnstiled-{queue}",
            Attributes={
                "RawMessageDelivery": str(properties["RawMessageDelivery"]).lower(),
                "FilterPolicy": json.dumps(templates.resolved(properties["FilterPolicy"], known)),
            },
        )
    return len(wanted)


def configure(directory):
    """routes.aws.toml with what is commented out switched on, rejected.toml behind it, and less patience."""
    text = (templates.ROOT / "deploy/routes.aws.toml").read_text()
    text, found = re.subn(r"^# \[card_sync\]\n(# .*\n)+", lambda match: match[0].replace("# ", ""), text, flags=re.M)
    assert found == 1, "routes.aws.toml has no [card_sync] in comments"
    text += (templates.ROOT / "deploy/rejected.toml").read_text()
    assert text.count('max_age = "60s"') == 2
    text = text.replace('max_age = "60s"', 'max_age = "500ms"')
    os.environ["TURNSTILED_DATA_DIR"] = str(directory / "data")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        os.environ["TURNSTILED_LISTEN"] = f"127.0.0.1:{probe.getsockname()[1]}"
    path = directory / "routes.toml"
    path.write_text(text)
    return path


def passages(binary, configuration):
    """Runs the daemon, passes its gate, and looks where that arrives."""
    def printed(*command):
        return subprocess.run([binary, *command, "--config", configuration], check=True, text=True, capture_output=True).stdout.strip()

    key, token = printed("keys", "add", "--building", "hq"), printed("token", "--role", "hr,admin")
    url = f"http://{os.environ['TURNSTILED_LISTEN']}"
    device, person = {"X-Api-Key": key}, {"Authorization": f"Bearer {token}"}
    with running(binary, configuration, url):
        assert request("PUT", f"{url}/v1/cards/04A2B9C1", {"employee_id": "E1001"}, person)[0] == 201
        swipe = {"card_id": "04A2B9C1", "gate_id": "north-1"}
        decisions = [request("POST", f"{url}/v1/buildings/hq/entries", swipe, device)[1]["decision"] for _ in range(2)]
        assert decisions == ["granted", "denied"], decisions
        wanted = collections.Counter({"card.registered": 1, "access.entry.granted": 1, "access.entry.denied": 1})
        arrives("SNS to the building's queue", Queue("turnstiled-hq").types, wanted)
        arrives("SNS to another building's queue", Queue("turnstiled-annex").types, collections.Counter({"card.registered": 1}))
        item = {"employee_id": "E1001"}
        arrives("DynamoDB, the card", lambda: table("CARD#04A2B9C1", "STATE").get("status"), "active")
        arrives("DynamoDB, inside", lambda: table(f"EMPLOYEE#{item['employee_id']}", "PRESENCE#hq").get("inside"), True)
        assert request("POST", f"{url}/v1/buildings/hq/exits", swipe, device)[0] == 202
        arrives("DynamoDB, outside", lambda: table(f"EMPLOYEE#{item['employee_id']}", "PRESENCE#hq").get("inside"), False)
        arrives("Kinesis", lambda: [event["type"] for event in stream()], ["access.exit.recorded"])
        arrives("S3, denied entries", lambda: len(objects(os.environ["TURNSTILED_REJECTED_BUCKET"], "rejected/building=hq/")), 1)
        publish_foreign_card()
        arrives("SNS to the queue of card sync to this server",
                lambda: request("GET", f"{url}/v1/cards/04FFFFFF", None, person)[1].get("employee_id"), "E2002")
        arrives("DynamoDB, the other server's card", lambda: table("CARD#04FFFFFF", "STATE").get("employee_id"), "E2002")
        arrives("everything is where it belongs", lambda: behind(url, person), {})
        served = set(re.findall(r"^# TYPE (\w+)", request("GET", f"{url}/metrics")[1], flags=re.M))
        assert served and served <= metric_names.all_names(), served - metric_names.all_names()


@contextlib.contextmanager
def running(binary, configuration, url):
    """The daemon; SIGTERM ends it, and it ends well."""
    daemon = subprocess.Popen([binary, "run", "--config", configuration], env=os.environ | {"RUST_LOG": "warn"})
    try:
        def is_ready():
            assert daemon.poll() is None, f"the daemon ended with {daemon.returncode}"
            return request("GET", f"{url}/readyz")[0] == 200
        until("the daemon is ready", is_ready)
        yield
        daemon.terminate()
        assert daemon.wait(TIMEOUT_SECONDS) == 0, f"SIGTERM: the daemon ended with {daemon.returncode}"
    finally:
        daemon.kill()
        daemon.wait()


class Queue:
    """What has arrived in a queue so far, by type."""

    def __init__(self, name):
        self.client = boto3.client("sqs")
        self.url = self.client.get_queue_url(QueueName=name)["QueueUrl"]
        self.seen = {}

    def types(self):
        for message in self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, WaitTimeSeconds=0).get("Messages", []):
            event = json.loads(message["Body"])
            self.seen[event["id"]] = event["type"]
            self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return collections.Counter(self.seen.values())


def table(partition, sort):
    return boto3.resource("dynamodb").Table(os.environ["TURNSTILED_TABLE"]).get_item(Key={"PK": partition, "SK": sort}).get("Item", {})


def stream():
    client, name = boto3.client("kinesis"), os.environ["TURNSTILED_STREAM"]
    events = []
    for shard in client.list_shards(StreamName=name)["Shards"]:
        place = client.get_shard_iterator(StreamName=name, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        events += [json.loads(record["Data"]) for record in client.get_records(ShardIterator=place["ShardIterator"])["Records"]]
    return events


def objects(bucket, prefix):
    return [item["Key"] for item in boto3.client("s3").list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def publish_foreign_card():
    data = {"card_id": "04FFFFFF", "employee_id": "E2002", "status": "active", "version": 1}
    event = {"specversion": "1.0", "id": str(uuid.uuid4()), "source": "/servers/annex-1", "type": "card.registered", "log": "annex-1.1",
             "sequence": "00000000000000000001", "time": "2026-11-20T08:00:00.000Z", "data": data}
    attributes = {"type": "card.registered", "server": "annex-1"}
    boto3.client("sns").publish(
        TopicArn=os.environ["TURNSTILED_TOPIC_ARN"],
        Message=json.dumps(event),
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in attributes.items()},
    )


def behind(url, person):
    """Sinks that have not everything yet, or not well."""
    sinks = request("GET", f"{url}/v1/sinks", None, person)[1]
    sinks = sinks["items"] if isinstance(sinks, dict) else sinks
    assert {sink["name"] for sink in sinks} == {"internal", "exits", "archive", "card-state", "rejected"}
    return {sink["name"]: sink for sink in sinks if sink["accepted"] != sink["delivered"]}


def download(directory):
    """The archive as files, in the places that the Glue table's template names."""
    bucket = os.environ["TURNSTILED_BUCKET"]
    template = templates.load("query")["Resources"]["Events"]["Properties"]["TableInput"]["Parameters"]["storage.location.template"]
    place = templates.resolved(template, {"ArchiveBucket": bucket, "ArchivePrefix": "events"}).removeprefix(f"s3://{bucket}/")
    place = re.sub(r"\$\{(\w+)\}", lambda match: {"building": r"(hq|annex|_server)", "dt": r"\d{4}-\d\d-\d\d", "hour": r"\d\d"}[match[1]], place)
    keys = objects(bucket, "events/")
    assert keys and all(re.fullmatch(place + r"[^/]+\.parquet", key) for key in keys), keys
    for key in keys:
        path = directory / "archive" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        boto3.client("s3").download_file(bucket, key, str(path))
        # what a replay into the archive leaves behind
        path.with_name(f"{path.stem}.again{path.suffix}").write_bytes(path.read_bytes())
    return directory / "archive" / "events"


def views(archive):
    """The named queries of both databases run over what was delivered, by DuckDB; the views have each event once."""
    connection = duckdb.connect()
    partitions = "hive_partitioning = true, hive_types = {'building': VARCHAR, 'dt': VARCHAR, 'hour': VARCHAR}"
    connection.execute(f"CREATE VIEW turnstiled_events AS SELECT * FROM read_parquet('{archive}/**/*.parquet', {partitions})")
    for query in named_queries("query"):
        # values are not fetched: moments in time would need pytz
        connection.execute(query if query.startswith("CREATE") else f"SELECT count(*) FROM ({query})")
    twice = connection.execute("SELECT count(*), count(DISTINCT id) FROM turnstiled_events").fetchone()
    once = connection.execute("SELECT count(*), count(DISTINCT id) FROM events_deduplicated").fetchone()
    assert twice[0] == 2 * twice[1] and once == (twice[1], twice[1]), (twice, once)

    columns = templates.load("firehose")["Resources"]["Events"]["Properties"]["TableInput"]["StorageDescriptor"]["Columns"]
    lines = archive.parent / "stream.ndjson"
    lines.write_text("".join(json.dumps(event) + "\n" for event in stream() * 2))
    shapes = ", ".join(f"'{column['Name']}': '{duckdb_type(column['Type'])}'" for column in columns)
    connection.execute("CREATE MACRO from_iso8601_timestamp(text) AS CAST(text AS TIMESTAMPTZ)")
    connection.execute(
        f"CREATE VIEW stream_events AS SELECT *, data.building AS building, \"time\"[1:10] AS dt, \"time\"[12:13] AS hour "
        f"FROM read_json('{lines}', format = 'newline_delimited', columns = {{{shapes}}})"
    )
    for query in named_queries("firehose"):
        connection.execute(query)
    exits = connection.execute("SELECT type, card_id, employee_id, gate, sequence FROM events_deduplicated").fetchall()
    assert [exit[:4] for exit in exits] == [("access.exit.recorded", "04A2B9C1", "E1001", "north-1")] and exits[0][4] > 0, exits
    print(f"  named queries run over {once[0]} archived events; both views have each event once")


def named_queries(template):
    resources = templates.load(template)["Resources"].values()
    queries = [resource["Properties"]["QueryString"] for resource in resources if resource["Type"] == "AWS::Athena::NamedQuery"]
    assert queries
    return queries


def duckdb_type(hive):
    """DuckDB's name of a type of Hive."""
    if hive.startswith("struct<"):
        fields = [field.split(":") for field in hive.removeprefix("struct<").removesuffix(">").split(",")]
        return "STRUCT(" + ", ".join(f'"{name}" {duckdb_type(kind)}' for name, kind in fields) + ")"
    return {"string": "VARCHAR", "bigint": "BIGINT"}[hive]


def request(method, url, body=None, headers=None):
    """Status and body, from JSON where it is that; status 0 where nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers or {}, method=method), timeout=10) as answer:
            status, kind, content = answer.status, answer.headers.get_content_type(), answer.read().decode()
    except urllib.error.HTTPError as error:
        status, kind, content = error.code, error.headers.get_content_type(), error.read().decode()
    except OSError:
        return 0, ""
    return status, json.loads(content) if kind.endswith("json") else content


def until(what, is_so):
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, f"not within {TIMEOUT_SECONDS} s: {what}"
        time.sleep(POLL_SECONDS)


def arrives(what, found, wanted):
    last = None

    def is_so():
        nonlocal last
        last = found()
        return last == wanted

    try:
        until(what, is_so)
    except AssertionError as error:
        raise AssertionError(f"{error}; wanted {wanted}, found {last}") from None
    print(f"  {what}: {wanted if wanted != {} else 'yes'}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
