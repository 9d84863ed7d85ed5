"""What can be checked of deploy/ without AWS, beside cfn-lint and checkov: names that two files have to agree on.

    check.py          promtool checks the alerts where it is installed
"""

import json
import pathlib
import re
import shutil
import subprocess
import tomllib

import yaml

import metric_names
import templates

DEPLOY = templates.ROOT / "deploy"
# What Prometheus makes of a histogram.
SUFFIXES = ("_bucket", "_sum", "_count")


def main():
    checks = [the_glue_table_is_athena_sql, dashboards_and_alerts_name_metrics_that_are_served, metrics_md_names_alerts_and_panels_that_are_there, every_alert_is_in_the_runbook,
              the_collector_annotates_what_spans_say, alarms_lead_to_sections_of_the_runbook, every_suppression_has_its_reason, the_role_may_do_what_the_daemon_calls, deploy_py_knows_every_output,
              yaml_can_be_read, the_packages_files_are_there, promtool_takes_the_alerts]
    failures = 0
    for check in checks:
        try:
            note = check()
            print(f"ok      {check.__name__.replace('_', ' ')}{f' ({note})' if note else ''}")
        except AssertionError as error:
            failures += 1
            print(f"FAILED  {check.__name__.replace('_', ' ')}: {error}")
    print(f"{len(checks) - failures} passed, {failures} failed")
    raise SystemExit(failures > 0)


def the_glue_table_is_athena_sql():
    text = (DEPLOY / "athena.sql").read_text()
    columns, _, partitions = text[text.index("CREATE"):].partition("PARTITIONED BY")
    column = re.compile(r"^  `(\w+)` (\w+)(?: COMMENT '([^']*)')?,?$", re.M)
    declared = [tuple(filter(None, match.groups())) for match in column.finditer(columns)]
    table = templates.load("query")["Resources"]["Events"]["Properties"]["TableInput"]
    members = ("Name", "Type", "Comment")
    made = [tuple(c[member] for member in members if member in c) for c in table["StorageDescriptor"]["Columns"]]
    assert made == declared, f"columns differ: {set(made) ^ set(declared) or 'in their order'}"
    assert [(c["Name"], c["Type"]) for c in table["PartitionKeys"]] == column_names(partitions), "partitions differ"
    known = {"Buildings": "hq,_server", "FirstDay": "2026-01-01", "ArchiveBucket": "turnstiled-archive", "ArchivePrefix": "events"}
    declared = dict(re.findall(r"^  '([\w.]+)' = '([^']*)'", text, re.M))
    made = templates.resolved(table["Parameters"], known)
    differing = {name for name in declared if made.get(name) != declared[name]}
    assert not differing and len(declared) > 8, f"properties differ: {differing}"
    location = templates.resolved(table["StorageDescriptor"]["Location"], known)
    assert f"LOCATION '{location}'" in text, "LOCATION differs"
    return f"{len(table['StorageDescriptor']['Columns'])} columns, {len(declared)} properties"


def column_names(text):
    return re.findall(r"^  `(\w+)` (\w+)", text, re.M)


def named_metrics(text):
    found = set(re.findall(r"\bturnstiled_[a-z_]+", text))
    return found, {name: next((name.removesuffix(s) for s in SUFFIXES if name.endswith(s)), name) for name in found}


def dashboards_and_alerts_name_metrics_that_are_served():
    served, count = metric_names.all_names(), 0
    for file in "grafana.json", "prometheus-rules.yaml", "collector.yaml", "cloudformation/watch.yaml", "RUNBOOK.md", "METRICS.md":
        text = (DEPLOY / file).read_text()
        # a list of endings
        text = re.sub(r"(turnstiled_(?:sink_)?)\(([a-z_|]+)\)", lambda m: " ".join(m[1] + end for end in m[2].split("|")), text)
        found, base = named_metrics(text)
        unknown = sorted(name for name in found if name not in served and base[name] not in served and name != "turnstiled_stream")
        assert found and not unknown, f"{file}: {unknown}"
        count += len(found)
    return f"{len(served)} served, {count} uses"


def metrics_md_names_alerts_and_panels_that_are_there():
    text = (DEPLOY / "METRICS.md").read_text()
    alerts = {rule["alert"] for group in yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"] for rule in group["rules"]}
    panels = {panel["title"] for panel in json.loads((DEPLOY / "grafana.json").read_text())["panels"]}
    named, shown = set(re.findall(r"\bTurnstiled\w+", text)), set(re.findall(r'[Pp]anel "([^"]+)"', text))
    unknown = sorted(named - alerts | shown - panels)
    assert len(named) > 10 and shown and not unknown, unknown
    return f"{len(named)} of {len(alerts)} alerts, {len(shown)} panels"


def the_collector_annotates_what_spans_say():
    """Whom an entry concerns is searched by only where [telemetry] annotate_ids says so, and then the span lists it itself."""
    source = "".join(path.read_text().split("#[cfg(test)]")[0] for path in (templates.ROOT / "src" / "trace").glob("*.rs"))
    said = set(re.findall(r'\.with(?:_some)?\(\s*"(\w+)"', source)) - {"card_id", "employee_id"}
    exporters = yaml.safe_load((DEPLOY / "collector.yaml").read_text())["exporters"]
    indexed = set(exporters["awsxray"]["indexed_attributes"])
    assert said == indexed, f"differ: {sorted(said ^ indexed)}"
    return f"{len(said)} annotations"


def every_alert_is_in_the_runbook():
    rules = [rule for group in yaml.safe_load((DEPLOY / "prometheus-rules.yaml").read_text())["groups"] for rule in group["rules"]]
    headings = set(re.findall(r"^#+ (.*)$", (DEPLOY / "RUNBOOK.md").read_text(), re.M))
    lacking = [rule["alert"] for rule in rules if rule["alert"] not in headings]
    assert not lacking, lacking
    return f"{len(rules)} alerts"


def alarms_lead_to_sections_of_the_runbook():
    headings = set(re.findall(r"^#+ (.*)$", (DEPLOY / "RUNBOOK.md").read_text(), re.M))
    count = 0
    for name in templates.names():
        for resource in templates.load(name)["Resources"].values():
            if resource["Type"] == "AWS::CloudWatch::Alarm":
                section = re.search(r'RUNBOOK\.md, "([^"]+)"$', resource["Properties"]["AlarmDescription"])
                assert section and section[1] in headings, f"{name}: {resource['Properties']['AlarmDescription']}"
                count += 1
    return f"{count} alarms"


def every_suppression_has_its_reason():
    count = 0
    for name in templates.names():
        for resource in templates.load(name)["Resources"].values():
            for skip in resource.get("Metadata", {}).get("checkov", {}).get("skip", []):
                assert len(skip.get("comment", "")) > 20, f"{name}: {skip}"
                count += 1
    return f"{count} rules of checkov suppressed"


# What each call of the AWS SDK needs. Firehose and EventBridge are not in routes.aws.toml, and not in its role.
RIGHTS = {
    "publish_batch": "sns:Publish", "put_records": "kinesis:PutRecords", "list_shards": "kinesis:ListShards",
    "put_object": "s3:PutObject", "head_object": "s3:GetObject", "get_object": "s3:GetObject", "list_objects_v2": "s3:ListBucket",
    "put_item": "dynamodb:PutItem", "send_message_batch": "sqs:SendMessage", "receive_message": "sqs:ReceiveMessage",
    "delete_message_batch": "sqs:DeleteMessage", "get_queue_attributes": "sqs:GetQueueAttributes",
    "put_record_batch": None, "put_events": None,
}
# By which what is encrypted is written and read.
KEY_RIGHTS = {"kms:GenerateDataKey", "kms:Decrypt"}


def the_role_may_do_what_the_daemon_calls():
    text = "".join(path.read_text() for path in (templates.ROOT / "src" / "sinks").rglob("*.rs"))
    calls = set(re.findall(r"\bclient\s*\.(\w+)\(\)", text))
    calls -= {"clone", "config"}
    assert calls <= set(RIGHTS), f"calls whose rights are not known here: {sorted(calls - set(RIGHTS))}"
    needed = {RIGHTS[call] for call in calls} - {None} | KEY_RIGHTS
    resources = templates.load("access")["Resources"]
    statements = resources["Role"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
    statements = statements + resources["CardSync"]["Properties"]["PolicyDocument"]["Statement"]
    allowed = set()
    for statement in statements:
        allowed |= set([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    assert allowed == needed, f"not allowed: {sorted(needed - allowed)}, not needed: {sorted(allowed - needed)}"
    return f"{len(calls)} calls, {len(allowed)} rights"


def deploy_py_knows_every_output():
    """Parameters without default come from an output of an earlier stack, or from deploy.py itself."""
    given = {"Name", "Server", "Building", "Buildings", "CaCertificate"}
    outputs = {output for name in templates.names() if name != "building" for output in templates.load(name)["Outputs"]}
    for name in templates.names():
        for parameter, declaration in templates.load(name)["Parameters"].items():
            assert "Default" in declaration or parameter in given | outputs, f"{name}: {parameter} comes from nowhere"


def yaml_can_be_read():
    files = [*DEPLOY.glob("*.yaml"), pathlib.Path(__file__).with_name("prometheus-tests.yaml")]
    for file in files:
        assert yaml.safe_load(file.read_text()), file.name
    panels = json.loads((DEPLOY / "grafana.json").read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels) > 10, "ids of panels"
    return f"{len(files)} files, {len(panels)} panels"


def the_packages_files_are_there():
    deb = tomllib.loads((templates.ROOT / "Cargo.toml").read_text())["package"]["metadata"]["deb"]
    sources = [source for source, *_ in deb["assets"] if not source.startswith("target/")]
    missing = [source for source in sources if not (templates.ROOT / source).is_file()]
    assert not missing, f"Cargo.toml packages what is not there: {missing}"
    kept = {f"/{target}{pathlib.PurePath(source).name}" for source, target, _ in deb["assets"] if target.startswith("etc/")}
    assert kept == set(deb["conf-files"]), f"conf-files differ from what goes to /etc: {kept ^ set(deb['conf-files'])}"
    return f"{len(sources)} files"


def promtool_takes_the_alerts():
    if not shutil.which("promtool"):
        return "skipped: promtool is not installed; Debian has it in prometheus"
    for arguments in (["check", "rules", DEPLOY / "prometheus-rules.yaml"],
                      ["test", "rules", pathlib.Path(__file__).with_name("prometheus-tests.yaml")]):
        run = subprocess.run(["promtool", *arguments], text=True, capture_output=True)
        assert run.returncode == 0, run.stdout + run.stderr


if __name__ == "__main__":
    main()
