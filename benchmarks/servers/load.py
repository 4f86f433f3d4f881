"""Who asks: `python -m benchmarks.servers.load URL IMAGES CONCURRENCY SECONDS`, light on CPU."""

import http.client
import json
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlparse

BOUNDARY = "benchmark"


def body_of(image: bytes) -> bytes:
    """Return a form with one file."""
    head = (
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; "
        'name="image"; filename="tile.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    )
    return head.encode() + image + f"\r\n--{BOUNDARY}--\r\n".encode()


def main() -> None:
    """Keep so many requests going for so long; print latencies, bytes and failures."""
    url, images, concurrency, seconds = sys.argv[1:]
    place = urlparse(url)
    bodies = [body_of(path.read_bytes()) for path in sorted(Path(images).iterdir())]
    latencies: list[float] = []
    sizes: list[int] = []
    failures: list[str] = []
    end = time.perf_counter() + float(seconds)

    def client(first: int) -> None:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=60)
        header = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        number = first
        while (begun := time.perf_counter()) < end:
            try:
                body = bodies[number % len(bodies)]
                connection.request("POST", place.path, body, header)
                reply = connection.getresponse()
                size = len(reply.read())
                if reply.status != 200:
                    failures.append(str(reply.status))
                    continue
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                connection.close()
                continue
            latencies.append(time.perf_counter() - begun)
            sizes.append(size)
            number += 1

    began = time.perf_counter()
    threads = [threading.Thread(target=client, args=(n,)) for n in range(int(concurrency))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.perf_counter() - began
    print(
        json.dumps({"seconds": took, "latencies": latencies, "sizes": sizes, "failures": failures})
    )


if __name__ == "__main__":
    main()
