"""Signs and verifies with the Standard Webhooks library for Python, on behalf of a Rust test.

One JSON object per line of standard input, one per line of standard output:

    {"do": "sign", "secret", "id", "timestamp", "body"}  ->  {"signature": "v1,..."}
    {"do": "verify", "secret", "headers": {...}, "body"} ->  {"verified": true} or
                                                             {"verified": false, "reason"}

Knows nothing of Sillage: that is its use. The timestamp is a number of seconds since 1970.
"""

import json
import sys
from datetime import datetime, timezone

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def answer(request):
    webhook = Webhook(request["secret"])
    if request["do"] == "sign":
        moment = datetime.fromtimestamp(request["timestamp"], tz=timezone.utc)
        return {"signature": webhook.sign(request["id"], moment, request["body"])}
    try:
        webhook.verify(request["body"], request["headers"])
    except WebhookVerificationError as error:
        return {"verified": False, "reason": str(error)}
    return {"verified": True}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
