"""Amazon Bedrock, as far as who asks: chat completions for requests that are signed with one key, as AWS' own library signs
them. Prints its port, and each request's headers as a line of JSON."""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

ACCESS, SECRET, SESSION, REGION = sys.argv[1:]
SIGNATURE = "Authorization"


class Bedrock(BaseHTTPRequestHandler):
    def expected(self, body):
        """The signature of a request with these bytes at this address, by AWS' library."""
        signed = self.headers[SIGNATURE].split("SignedHeaders=")[1].split(",")[0].split(";")
        request = AWSRequest(self.command, f"http://{self.headers['Host']}{self.path}", data=body)
        for name in signed:
            request.headers[name] = self.headers[name]
        request.context["timestamp"] = self.headers["X-Amz-Date"]
        auth = SigV4Auth(Credentials(ACCESS, SECRET, SESSION), "bedrock", REGION)
        canonical = auth.canonical_request(request)
        text = auth.string_to_sign(request, canonical)
        return auth.signature(text, request)

    def answer(self, body):
        given = (self.headers[SIGNATURE] or "").split("Signature=")[-1]
        right = self.headers["X-Amz-Security-Token"] == SESSION and given == self.expected(body)
        said = {
            "id": "1",
            "object": "chat.completion",
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "signed"}}],
            "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
            "data": [{"id": "openai.gpt-oss-120b-1:0"}],
        }
        said = json.dumps(said if right else {"message": "The request signature we calculated does not match"}).encode()
        self.send_response(200 if right else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def do_GET(self):
        self.answer(b"")

    def do_POST(self):
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Bedrock)
print(server.server_address[1], flush=True)
server.serve_forever()
