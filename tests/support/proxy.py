"""A proxy between a client and a Tiled server that can refuse what the client wants to write."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

NOT_FORWARDED = {"connection", "content-encoding", "content-length", "date", "server"}
NOT_FORWARDED |= {"transfer-encoding", "host", "accept-encoding"}


class Proxy:
    """Hands every request on to a server, but answers writes with `refusal` where that is set.

    Attributes
    ----------
    uri
        Address of the proxy.
    refusal
        HTTP status that writes are answered with; None hands them on.
    n_refused
        How many were refused.
    """

    def __init__(self, uri):
        self.refusal, self.n_refused = None, 0
        self._upstream = httpx.Client(base_url=uri, timeout=60, trust_env=False)
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                if self.command != "GET" and proxy.refusal is not None:
                    proxy.n_refused += 1
                    self._reply(proxy.refusal, {}, b"{}")
                else:
                    self._reply(*proxy._forward(self.command, self.path, self.headers, body))

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer

            def _reply(self, status, headers, body):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.uri = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _forward(self, method, path, headers, body):
        kept = {k: v for k, v in headers.items() if k.lower() not in NOT_FORWARDED}
        # Links in the answer must lead to the proxy again.
        kept |= {"Host": self.uri.removeprefix("http://"), "Accept-Encoding": "identity"}
        answer = self._upstream.request(method, path, headers=kept, content=body)
        passed = {k: v for k, v in answer.headers.items() if k.lower() not in NOT_FORWARDED}
        return answer.status_code, passed, answer.content

    def close(self):
        self._server.shutdown()
        self._server.server_close()
        self._upstream.close()


class KeyedProxy(Proxy):
    """A server with a key for each visitor: `runs` are the uids that a key may read.

    `.authorizations` are the headers that requests came with; a key that is taken out of `runs` is
    revoked.
    """

    def __init__(self, uri, api_key, runs):
        self.runs, self.authorizations, self._api_key = runs, [], api_key
        super().__init__(uri)

    def _forward(self, method, path, headers, body):
        given = headers.get("Authorization", "")
        self.authorizations.append(given)
        kept = {name: value for name, value in headers.items() if name != "Authorization"}
        key = given.removeprefix("Apikey ")
        if key in self.runs:
            others = set().union(*self.runs.values()) - self.runs[key]
            if any(uid in path for uid in others):
                return 404, {}, b"{}"
            kept["Authorization"] = f"Apikey {self._api_key}"
        elif given:
            return 401, {}, b"{}"
        return super()._forward(method, path, kept, body)
