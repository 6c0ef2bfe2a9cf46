"""Creates the buckets of MLflow and DVC if they are missing."""

import os

import boto3

store = boto3.client("s3")
have = {bucket["Name"] for bucket in store.list_buckets()["Buckets"]}
for name in os.environ["BUCKETS"].split():
    if name not in have:
        store.create_bucket(Bucket=name)
    print(f"bucket {name}: {'exists' if name in have else 'created'}", flush=True)
