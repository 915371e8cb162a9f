"""A receiver of webhooks that checks signatures: see webhooks.md. Arguments: the address to listen on, host:port."""

import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks import Webhook, WebhookVerificationError

webhook = Webhook(os.environ["WEBHOOK_SECRET"])
seen = set()  # in earnest: where it outlives this process


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        try:
            notice = webhook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            self.send_response(401)
        else:
            if self.headers["webhook-id"] not in seen:
                seen.add(self.headers["webhook-id"])
                print(notice["type"], notice["data"]["order"]["user_id"], flush=True)
            self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass


host, port = sys.argv[1].split(":")
HTTPServer((host, int(port)), Receiver).serve_forever()
