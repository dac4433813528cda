"""A stand-in for Google Cloud Storage: the requests of its JSON API that clients make.

It is as strict as the original where that matters: an object is replaced as a whole,
earlier generations are gone, a conditional request fails with 412 unless the generation
is the one it names, and nothing can be appended to or renamed. `failing` refuses all
writes, `silent` what concerns objects whose names contain it.
"""

import base64
import contextlib
import email
import itertools
import json
import re
import threading
import time
import zlib
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit

import google_crc32c


@dataclass(frozen=True)
class Object:
    content: bytes
    generation: int
    updated: float


class Buckets:
    """The objects of all buckets, by bucket and name."""

    def __init__(self, *names):
        self.objects = {name: {} for name in names}
        self.failing, self.silent = False, None
        self.written = []  # the name of each object, at each write
        self.lock, self.counter = threading.RLock(), itertools.count(1)

    def files(self, bucket="bucket"):
        with self.lock:
            return {name: x.content for name, x in self.objects[bucket].items()}


class Refused(Exception):
    def __init__(self, status, reason):
        self.status, self.reason = status, reason


def serve(buckets):
    """Returns a running server, and its URL."""
    handler = type("Bound", (Handler,), {"buckets": buckets, "uploads": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer is sent at once, not in parts that wait for each other

    def log_message(self, *_args):
        pass

    def handle(self):
        with contextlib.suppress(ConnectionError):  # clients may go at any time
            super().handle()

    def do(self):
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        query = {key: found[0] for key, found in parse_qs(url.query).items()}
        try:
            with self.buckets.lock:
                status, headers, body = self.answer(url.path, query, content)
        except Refused as error:
            about = {"error": {"code": error.status, "message": error.reason}}
            status, headers = error.status, {}
            body = b"" if status == 304 else json.dumps(about).encode()
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do

    def answer(self, path, query, content):
        if path.startswith("/batch/"):
            return self.batch(content)
        if path.startswith("/upload/"):
            return self.upload(path, query, content)
        found = re.fullmatch(
            r"(?:/download)?/storage/v1/b/([^/]+)(?:/o(?:/(.+))?|/iam/.*|/storageLayout)?",
            path,
        )
        if not found:
            raise Refused(501, f"{self.command} {path} is not known here")
        bucket, name = found[1], unquote(found[2] or "")
        objects = self.objects_of(bucket)
        if self.buckets.silent and self.buckets.silent in name + query.get(
            "prefix", ""
        ):
            raise Refused(403, "the stand-in does not answer now")
        if not found[2]:
            if path.endswith("/o"):
                return self.list(objects, bucket, query)
            if path.endswith("/iam/testPermissions"):
                return as_json({} if self.buckets.failing else query)
            return as_json({"kind": "storage#bucket", "name": bucket})
        if self.command == "POST":
            return self.copy(bucket, found[2])
        if name not in objects:
            raise Refused(404, f"No such object: {bucket}/{name}")
        wanted = int(query.get("generation", objects[name].generation))
        if wanted != objects[name].generation:
            raise Refused(404, f"No such object: {bucket}/{name}#{wanted}")
        self.check(objects.get(name), query)
        if self.command == "DELETE":
            self.check_writable()
            del objects[name]
            return 204, {}, b""
        return self.get(bucket, name, objects[name], query)

    def objects_of(self, bucket):
        if bucket not in self.buckets.objects:
            raise Refused(404, "The specified bucket does not exist.")
        return self.buckets.objects[bucket]

    def check_silent(self, name):
        if self.buckets.silent and self.buckets.silent in name:
            raise Refused(403, "the stand-in does not answer now")

    def check_writable(self):
        if self.buckets.failing:
            raise Refused(403, "the stand-in accepts no writes now")

    def check(self, old, query):
        generation = old.generation if old else 0
        wanted = query.get("ifGenerationMatch")
        if wanted is not None and int(wanted) != generation:
            raise Refused(412, "conditionNotMet")
        if query.get("ifGenerationNotMatch") == str(generation):
            raise Refused(304, "notModified")

    # --- Reading ---

    def get(self, bucket, name, found, query):
        if query.get("alt") != "media":
            return as_json(self.described(bucket, name, found))
        content, status = found.content, 200
        headers = {
            "x-goog-generation": str(found.generation),
            "X-Goog-Hash": f"crc32c={crc32c(content)}",
        }
        if bounds := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(bounds[1]), int(bounds[2] or len(content) - 1)
            if start >= len(content):
                raise Refused(416, "the range is outside of the object")
            end = min(end, len(content) - 1)
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            content, status = content[start : end + 1], 206
        return status, headers, content

    def list(self, objects, bucket, query):
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        first, end = query.get("startOffset", ""), query.get("endOffset")
        found = {}  # each object, or folder, by where it stands
        for name in sorted(objects):
            rest = name.removeprefix(prefix)
            if not name.startswith(prefix) or name < first:
                continue
            if end is not None and name >= end:
                continue
            folder, slash, _ = rest.partition(delimiter) if delimiter else ("", "", "")
            found[prefix + folder + slash if slash else name] = bool(slash)
        start, limit = (
            int(query.get("pageToken", 0)),
            int(query.get("maxResults", 1000)),
        )
        page = list(found)[start : start + limit]
        items = [self.described(bucket, x, objects[x]) for x in page if not found[x]]
        about = {"kind": "storage#objects", "items": items}
        if prefixes := [x for x in page if found[x]]:
            about["prefixes"] = prefixes
        if start + limit < len(found):
            about["nextPageToken"] = str(start + limit)
        return as_json(about)

    def described(self, bucket, name, found):
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(found.updated))
        when += f".{int(found.updated % 1 * 1000):03d}Z"
        link = f"http://{self.headers['Host']}/download/storage/v1/b/{bucket}/o/"
        link += quote(name, safe="")
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{found.generation}",
            "name": name,
            "bucket": bucket,
            "generation": str(found.generation),
            "metageneration": "1",
            "contentType": "application/octet-stream",
            "mediaLink": f"{link}?generation={found.generation}&alt=media",
            "timeCreated": when,
            "updated": when,
            "size": str(len(found.content)),
            "crc32c": crc32c(found.content),
            "etag": f"{zlib.crc32(found.content)}-{found.generation}",
        }

    # --- Writing ---

    def upload(self, path, query, content):
        bucket = re.fullmatch(r"/upload/storage/v1/b/([^/]+)/o", path)[1]
        if upload := query.get("upload_id"):
            return self.proceed(upload, content)
        name = query.get("name")
        if query["uploadType"] == "resumable":
            about = json.loads(content or b"{}")
            upload = str(next(self.buckets.counter))
            self.uploads[upload] = (bucket, name or about["name"], query, bytearray())
            host = self.headers["Host"]
            where = f"http://{host}{path}?uploadType=resumable&upload_id={upload}"
            return 200, {"Location": where}, b""
        if query["uploadType"] == "multipart":
            kind = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
            about, _ = email.message_from_bytes(kind + content).get_payload()
            name = name or json.loads(about.get_payload(decode=True))["name"]
            # Its parser changes ends of lines; the media part is cut out of the bytes.
            mark = content.split(b"\r\n", 1)[0]
            part = content.split(mark)[2]
            content = part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n")
        return self.put(bucket, name, query, content)

    def proceed(self, upload, content):
        bucket, name, query, parts = self.uploads[upload]
        parts += content
        found = re.fullmatch(
            r"bytes (?:\*|\d+-\d+)/(\d+|\*)", self.headers.get("Content-Range", "")
        )
        if (found and found[1] != "*" and len(parts) == int(found[1])) or not found:
            return self.put(bucket, name, query, bytes(parts))
        return 308, {"Range": f"bytes=0-{len(parts) - 1}"} if parts else {}, b""

    def put(self, bucket, name, query, content):
        self.check_writable()
        self.check_silent(name)
        objects = self.objects_of(bucket)
        self.check(objects.get(name), query)
        new = Object(content, next(self.buckets.counter), time.time())
        objects[name] = new
        self.buckets.written.append(name)
        return as_json(self.described(bucket, name, new))

    def copy(self, bucket, rest):
        source, verb, target, name = re.fullmatch(
            r"(.+)/(copyTo|rewriteTo)/b/([^/]+)/o/(.+)", rest
        ).groups()
        found = self.objects_of(bucket).get(unquote(source))
        if not found:
            raise Refused(404, f"No such object: {bucket}/{unquote(source)}")
        answer = self.put(target, unquote(name), {}, found.content)
        if verb == "copyTo":
            return answer
        size = str(len(found.content))
        about = {"done": True, "totalBytesRewritten": size, "objectSize": size}
        return as_json(about | {"resource": json.loads(answer[2])})

    def batch(self, content):
        """Answers a multipart request of several deletions."""
        self.check_writable()
        mark = content.split(b"\r\n", 1)[0].decode().removeprefix("--")
        parts = re.findall(rb"^DELETE (\S+) HTTP", content, re.M)
        ids = re.findall(rb"^Content-ID: ?(\S+)", content, re.M | re.I)
        body = ""
        for number, part in enumerate(parts):
            url, status = urlsplit(part.decode()), 204
            bucket, name = re.search(r"/b/([^/]+)/o/(.+)", url.path).groups()
            if self.objects_of(bucket).pop(unquote(name), None) is None:
                status = 404
            identity = ids[number].decode().strip("<>") if ids else str(number)
            body += f"--{mark}\r\nContent-Type: application/http\r\n"
            body += f"Content-ID: <response-{identity}>\r\n\r\n"
            body += f"HTTP/1.1 {status} Done\r\nContent-Length: 0\r\n\r\n\r\n"
        body += f"--{mark}--\r\n"
        kind = {"Content-Type": f"multipart/mixed; boundary={mark}"}
        return 200, kind, body.encode()


def as_json(about):
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    return 200, headers, json.dumps(about).encode()


def crc32c(content):
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()
