"""A relay in front of a server, for what a network does to connections."""

import contextlib
import socket
import threading
import time

ERROR_500 = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Relay:
    """Passes connections on; `delay_s` holds each part of a request back, `broken` answers 500."""

    def __init__(self, uri):
        host, port = uri.removeprefix("http://").split(":")
        self._behind, self.delay_s, self.broken = (host, int(port)), 0.0, False
        self._listen(0)
        self._address = self._listener.getsockname()
        self.uri = f"http://127.0.0.1:{self._address[1]}"

    def close(self):
        """Refuse connections, and end those that there are."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for front in self._fronts:
            with contextlib.suppress(OSError):
                front.shutdown(socket.SHUT_RDWR)

    def open(self):
        """Take connections again."""
        self._listen(self._address[1])

    def _listen(self, port):
        self._fronts = []
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(
            target=self._accept, args=(self._listener, self._fronts), daemon=True
        ).start()

    def _accept(self, listener, fronts):
        while True:
            try:
                front, _ = listener.accept()
            except OSError:
                return
            fronts.append(front)
            threading.Thread(target=self._serve, args=(front,), daemon=True).start()

    def _serve(self, front):
        with (
            contextlib.suppress(OSError),
            front,
            socket.create_connection(self._behind) as back,
        ):
            answers = threading.Thread(target=self._answer, args=(back, front), daemon=True)
            answers.start()
            while data := front.recv(2**20):
                time.sleep(self.delay_s)
                if self.broken:
                    front.sendall(ERROR_500)
                    break
                back.sendall(data)
            with contextlib.suppress(OSError):
                back.shutdown(socket.SHUT_RDWR)
            answers.join()

    def _answer(self, back, front):
        with contextlib.suppress(OSError):
            while data := back.recv(2**20):
                front.sendall(data)
        with contextlib.suppress(OSError):
            front.shutdown(socket.SHUT_RDWR)
