"""Reads records of a stream as a consumer does that knows AWS' aggregation format: one JSON object a line in, with
boto3's names and Data in base64; one a line out for each event in them."""

import base64
import json
import sys

from aws_kinesis_agg.deaggregator import iter_deaggregate_records

for line in sys.stdin:
    record = json.loads(line)
    record["Data"] = base64.b64decode(record["Data"])
    record["ApproximateArrivalTimestamp"] = 0
    for event in iter_deaggregate_records([record], data_format="Boto3"):
        event = event["kinesis"]
        is_aggregated = event.get("aggregated", False)
        # a plain record comes back as it is, one out of an aggregated record in base64, as Lambda gives it
        data = base64.b64decode(event["data"]) if is_aggregated else event["data"]
        print(json.dumps({
            "record": record["SequenceNumber"],
            "key": event["partitionKey"],
            "hash_key": event.get("explicitHashKey"),
            "data": data.decode(),
        }))
