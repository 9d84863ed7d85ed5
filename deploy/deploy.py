#!/usr/bin/env python3
"""Creates or updates the stacks of deploy/cloudformation in order, each with the outputs of those before it.

    deploy/deploy.py --server hq-1 --building hq --building annex --ca servers-ca.pem --env-file turnstiled.env

Needs boto3, and credentials and a region from where boto3 finds them (AWS_PROFILE, AWS_REGION, ...). Whatever is already
as it should be is left alone, so it can be run again: for one more building, another parameter, a newer template. What is
not said again stays as it was: parameters, buildings, and the stacks of --card-sync, --firehose and --ca. Nothing is removed.
"""

import argparse
import pathlib
import sys

import boto3
import botocore.exceptions

TEMPLATES = pathlib.Path(__file__).parent / "cloudformation"

# What routes.aws.toml and rejected.toml take from the environment, and the output that it is.
ENVIRONMENT = {
    "TURNSTILED_TOPIC_ARN": "TopicArn",
    "TURNSTILED_STREAM": "StreamName",
    "TURNSTILED_BUCKET": "ArchiveBucket",
    "TURNSTILED_REJECTED_BUCKET": "RejectedBucket",
    "TURNSTILED_TABLE": "TableName",
    "TURNSTILED_DEAD_LETTER_QUEUE_URL": "DeadLetterQueueUrl",
    "TURNSTILED_CARD_QUEUE_URL": "CardQueueUrl",
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--name", default="turnstiled", help="the beginning of every name (turnstiled)")
    parser.add_argument("--server", required=True, help="the [server] id")
    parser.add_argument("--building", action="append", required=True, help="the id of a building; once for each")
    parser.add_argument("--ca", type=pathlib.Path, help="authority of servers' certificates, PEM; without it no access stack")
    parser.add_argument("--card-sync", action="store_true", help="a queue of other servers' changes of cards")
    parser.add_argument("--firehose", action="store_true", help="exits as Parquet by Firehose")
    parser.add_argument("--set", action="append", default=[], metavar="STACK.PARAMETER=VALUE", help="any other parameter")
    parser.add_argument("--env-file", type=pathlib.Path, help="where to write what routes.aws.toml needs")
    return parser.parse_args()


def plan(options, present):
    """Stacks in order: template, name, and what is known before any stack is there. Those of `present` are there."""
    name, server = options.name, options.server
    common = {"Name": name, "Server": server, "Buildings": ",".join([*options.building, "_server"])}
    card_sync, access = (f"{name}-{what}-{server}".replace("_", "-") for what in ("card-sync", "access"))
    anchor = {"CaCertificate": options.ca.read_text()} if options.ca else {}
    yield "foundation", f"{name}-foundation", common
    yield "messages", f"{name}-messages", common
    yield "storage", f"{name}-storage", common
    for building in options.building:
        yield "building", f"{name}-building-{building}".replace("_", "-"), common | {"Building": building}
    if options.card_sync or card_sync in present:
        yield "card-sync", card_sync, common
    yield "query", f"{name}-query", common
    if options.firehose or f"{name}-firehose" in present:
        yield "firehose", f"{name}-firehose", common
    if options.ca or access in present:
        yield "access", access, common | anchor
    yield "watch", f"{name}-watch", common


def deploy(client, template, stack, known, before):
    """Creates one stack, or updates it that had the parameters `before`, and waits for it; its outputs by name."""
    body = (TEMPLATES / f"{template}.yaml").read_text()
    declared = [parameter["ParameterKey"] for parameter in client.get_template_summary(TemplateBody=body)["Parameters"]]
    request = {
        "StackName": stack,
        "TemplateBody": body,
        "Capabilities": ["CAPABILITY_NAMED_IAM"],
        "Parameters": parameters(declared, known, before or {}),
    }
    if before is not None:
        try:
            client.update_stack(**request)
            client.get_waiter("stack_update_complete").wait(StackName=stack)
        except botocore.exceptions.ClientError as error:
            if "No updates are to be performed" not in str(error):
                raise
    else:
        client.create_stack(**request, OnFailure="DELETE")
        client.get_waiter("stack_create_complete").wait(StackName=stack)
    described = client.describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def parameters(declared, known, before):
    """What is known, else what the stack has (CloudFormation would take the template's default), else the default."""
    chosen = []
    for key in declared:
        if key == "Buildings" and key in before:
            both = dict.fromkeys([*before[key].split(","), *known[key].split(",")])
            chosen.append({"ParameterKey": key, "ParameterValue": ",".join(both)})
        elif key in known:
            chosen.append({"ParameterKey": key, "ParameterValue": known[key]})
        elif key in before:
            chosen.append({"ParameterKey": key, "UsePreviousValue": True})
    return chosen


def stacks(client):
    """The parameters of every stack that is there, by its name."""
    described = [stack for page in client.get_paginator("describe_stacks").paginate() for stack in page["Stacks"]]
    return {
        stack["StackName"]: {parameter["ParameterKey"]: parameter["ParameterValue"] for parameter in stack.get("Parameters", [])}
        for stack in described
    }


def settings(options):
    """What --set says, by template."""
    by_template = {}
    for setting in options.set:
        place, _, value = setting.partition("=")
        template, _, parameter = place.partition(".")
        if not (TEMPLATES / f"{template}.yaml").exists() or not parameter:
            sys.exit(f"--set {setting}: write STACK.PARAMETER=VALUE, such as storage.ObjectLockDays=365")
        by_template.setdefault(template, {})[parameter] = value
    return by_template


def main():
    options = arguments()
    client = boto3.client("cloudformation")
    outputs, chosen, present = {}, settings(options), stacks(client)
    for template, stack, values in plan(options, present):
        print(f"{stack} ...", file=sys.stderr, flush=True)
        made = deploy(client, template, stack, values | outputs | chosen.get(template, {}), present.get(stack))
        # every building has the same names, and no other stack asks for them
        if template != "building":
            outputs |= made
    lines = [f"AWS_REGION={client.meta.region_name}", f"TURNSTILED_SERVER_ID={options.server}"]
    lines += [f"{variable}={outputs[key]}" for variable, key in ENVIRONMENT.items() if key in outputs]
    text = "".join(line + "\n" for line in lines)
    if options.env_file:
        options.env_file.write_text(text)
    else:
        print(text, end="")
    for key in ("RoleArn", "CollectorRoleArn", "TrustAnchorArn", "ProfileArn"):
        if key in outputs:
            print(f"{key}: {outputs[key]}", file=sys.stderr)


if __name__ == "__main__":
    main()
