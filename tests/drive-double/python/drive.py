#!/usr/bin/env python3
"""Drives the double with Google's own client for Python, so that it is not judged by Lifeboat's provider alone.

Usage: drive.py LINE, where LINE is what lifeboat-drive-double prints at its start. Prints one line per check and ends
with an error at the first that fails. What is expected here is what Google documents, or what the client needs.
"""
import hashlib
import io
import json
import random
import sys
import urllib.request

from google.auth.exceptions import RefreshError
from google.oauth2 import credentials as user_credentials
from google.oauth2 import service_account
from googleapiclient import discovery, discovery_cache
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaIoBaseDownload, MediaIoBaseUpload

QUANTUM = 256 * 1024
SCOPE_FILE = "https://www.googleapis.com/auth/drive.file"
SCOPE_DRIVE = "https://www.googleapis.com/auth/drive"
DIGESTS = "id,name,size,md5Checksum,sha256Checksum,headRevisionId"


class Setting:
    """The double, and Google's client for its user and for its service account."""

    def __init__(self, line):
        self.facts = json.loads(line)
        self.folder = self.facts["folder"]
        self.drive = self.facts["drive"]
        with open(self.facts["client_secret"]) as file:
            client = json.load(file)["installed"]
        self.user_credentials = user_credentials.Credentials(
            None,
            refresh_token=self.facts["refresh_token"],
            token_uri=client["token_uri"],
            client_id=client["client_id"],
            client_secret=client["client_secret"],
            scopes=[SCOPE_FILE],
        )
        self.user = self.service(self.user_credentials)
        self.account = self.service(
            service_account.Credentials.from_service_account_file(self.facts["service_account"], scopes=[SCOPE_DRIVE])
        )

    def service(self, credentials):
        """Google's client, made from Google's own description of the API with another address."""
        document = json.loads(discovery_cache.get_static_doc("drive", "v3"))
        document["rootUrl"] = self.facts["url"] + "/"
        document["mtlsRootUrl"] = self.facts["url"] + "/"
        document["baseUrl"] = self.facts["url"] + "/drive/v3/"
        return discovery.build_from_document(document, credentials=credentials)

    def control(self, action, body=None, method="POST"):
        """Asks the double itself."""
        data = None if method == "GET" else json.dumps(body or {}).encode()
        request = urllib.request.Request(f"{self.facts['url']}/_double/{action}", data=data, method=method)
        with urllib.request.urlopen(request) as answer:
            return json.loads(answer.read())

    def fault(self, call, when, fault):
        self.control("faults", {"call": call, "when": when, "fault": fault})

    def id(self):
        return self.user.files().generateIds(count=1, space="drive", type="files").execute()["ids"][0]


def noise(size, seed=1):
    return random.Random(seed).randbytes(size)


def check_digests(file, content):
    assert int(file["size"]) == len(content), file
    assert file["sha256Checksum"] == hashlib.sha256(content).hexdigest(), file
    assert file["md5Checksum"] == hashlib.md5(content).hexdigest(), file


def refused(request, status, reason):
    """The request is refused with the reason as Google's client reads it."""
    try:
        answer = request.execute()
    except HttpError as error:
        assert error.status_code == status, f"{error.status_code} in place of {status}: {error}"
        assert error.error_details[0]["reason"] == reason, error.error_details
        assert json.loads(error.content)["error"]["code"] == status
        return error
    raise AssertionError(f"it was not refused with {status} {reason}: {answer}")


def upload(setting, name, content, chunk=QUANTUM, **metadata):
    media = MediaIoBaseUpload(io.BytesIO(content), "application/octet-stream", chunksize=chunk, resumable=True)
    body = {"name": name, "parents": [setting.folder], **metadata}
    return setting.user.files().create(body=body, media_body=media, fields=DIGESTS)


def finish(request):
    answer, rounds = None, 0
    while answer is None:
        _, answer = request.next_chunk()
        rounds += 1
        assert rounds < 100, "the upload does not end"
    return answer


def download(setting, id, chunk=QUANTUM):
    out = io.BytesIO()
    loader = MediaIoBaseDownload(out, setting.user.files().get_media(fileId=id), chunksize=chunk)
    done, rounds = False, 0
    while not done:
        _, done = loader.next_chunk()
        rounds += 1
        assert rounds < 1000, "the download does not end"
    return out.getvalue()


def about(setting):
    answer = setting.user.about().get(fields="storageQuota,user(emailAddress)").execute()
    assert set(answer) == {"storageQuota", "user"}, answer
    assert "limit" not in answer["storageQuota"] and int(answer["storageQuota"]["usage"]) >= 0
    assert set(answer["user"]) == {"emailAddress"}
    setting.control("quota", {"bytes": 10**9})
    assert setting.user.about().get(fields="*").execute()["storageQuota"]["limit"] == str(10**9)
    setting.control("quota")
    refused(setting.user.about().get(), 400, "required")


def resumable_with_generated_id(setting):
    content = noise(3 * QUANTUM + 17)
    id = setting.id()
    request = upload(setting, "pack", content, id=id)
    status, answer = request.next_chunk()
    assert answer is None and status.resumable_progress == QUANTUM
    file = finish(request)
    assert file["id"] == id and set(file) == set(DIGESTS.split(","))
    check_digests(file, content)
    check_digests(setting.user.files().get(fileId=id, fields=DIGESTS).execute(), content)
    assert download(setting, id) == content
    # The same create again, as after an unknown outcome.
    refused(upload(setting, "pack", content, id=id), 409, "fileIdInUse")
    simple = MediaIoBaseUpload(io.BytesIO(b"x"), "text/plain")
    again = setting.user.files().create(body={"id": id, "name": "pack"}, media_body=simple)
    refused(again, 409, "fileIdInUse")
    refused(setting.user.files().create(body={"id": "made-up", "name": "pack"}), 400, "invalid")
    whole = upload(setting, "one-request", content, chunk=-1)
    check_digests(finish(whole), content)


def multipart_and_media(setting):
    # Bytes that look like the ends of lines and of parts.
    content = b"\r\n--===============\r\n\n--\r" + noise(5000) + b"\r\n"
    media = MediaIoBaseUpload(io.BytesIO(content), "application/x-test")
    body = {"name": "multi", "parents": [setting.folder], "appProperties": {"kind": "index"}}
    file = setting.user.files().create(body=body, media_body=media, fields=DIGESTS + ",mimeType,appProperties").execute()
    check_digests(file, content)
    assert file["mimeType"] == "application/x-test" and file["appProperties"] == {"kind": "index"}
    assert download(setting, file["id"]) == content
    file = setting.user.files().create(media_body=media, fields=DIGESTS).execute()
    check_digests(file, content)
    empty = setting.user.files().create(
        body={"name": "empty", "parents": [setting.folder]},
        media_body=MediaIoBaseUpload(io.BytesIO(b""), "application/octet-stream"),
        fields=DIGESTS,
    ).execute()
    check_digests(empty, b"")
    # A ranged read of an empty file is 416, which the client knows.
    assert download(setting, empty["id"]) == b""


def paging(setting):
    folder = setting.user.files().create(
        body={"name": "many", "mimeType": "application/vnd.google-apps.folder", "parents": [setting.folder]}
    ).execute()
    assert set(folder) == {"kind", "id", "name", "mimeType"}, folder
    made = set()
    for number in range(7):
        # Names are not unique.
        body = {"name": f"it's \\ {number % 6}", "parents": [folder["id"]]}
        made.add(setting.user.files().create(body=body, fields="id").execute()["id"])
    files = setting.user.files()
    query = f"'{folder['id']}' in parents and trashed = false"
    request = files.list(q=query, pageSize=3, fields="nextPageToken,incompleteSearch,files(id,name)")
    found, pages = [], 0
    while request is not None:
        answer = request.execute()
        assert answer["incompleteSearch"] is False
        assert all(set(file) == {"id", "name"} for file in answer["files"])
        found += answer["files"]
        pages += 1
        request = files.list_next(request, answer)
    assert pages == 3 and len(found) == 7 and {file["id"] for file in found} == made
    quoted = "IT\\'S \\\\ 0"
    twins = files.list(q=f"{query} and name = '{quoted}'", orderBy="createdTime desc").execute()["files"]
    assert len(twins) == 2, twins
    refused(files.list(q="name = 'it's'"), 400, "invalid")
    refused(files.list(pageSize=1001), 400, "invalidParameter")
    refused(files.list(fields="files(sha256)"), 400, "invalidParameter")
    refused(files.list(pageToken="made-up"), 400, "invalid")
    refused(files.list(q="'made-up' in parents"), 404, "notFound")


def ranges(setting):
    content = noise(2 * QUANTUM + 999, seed=5)
    id = finish(upload(setting, "ranged", content))["id"]
    assert download(setting, id, chunk=100_000) == content
    request = setting.user.files().get_media(fileId=id)
    request.headers["Range"] = "bytes=1000-1009"
    assert request.execute() == content[1000:1010]
    request = setting.user.files().get_media(fileId=id)
    request.headers["Range"] = f"bytes={len(content)}-"
    try:
        request.execute()
        raise AssertionError("a range beyond the end was answered")
    except HttpError as error:
        assert error.status_code == 416 and error.resp["content-range"] == f"bytes */{len(content)}"
    setting.control("abusive", {"id": id})
    refused(setting.user.files().get_media(fileId=id), 403, "cannotDownloadAbusiveFile")
    assert setting.user.files().get_media(fileId=id, acknowledgeAbuse=True).execute() == content


def interrupted_uploads(setting):
    content = noise(4 * QUANTUM + 1, seed=6)
    # The client believes the 308: what was not taken is sent again.
    setting.fault("upload_chunk", {"nth": 1}, {"take_part": {"bytes": QUANTUM + 5}})
    setting.fault("upload_chunk", {"nth": 2}, "take_none")
    check_digests(finish(upload(setting, "partial", content, chunk=2 * QUANTUM)), content)
    setting.control("faults", method="DELETE")
    # After a failure it asks how far the upload is.
    for fault in [{"error": {"status": 503, "after_commit": False}}, {"error": {"status": 500, "after_commit": True}}]:
        setting.fault("upload_chunk", {"nth": 2}, fault)
        request = upload(setting, "resumed", content, chunk=2 * QUANTUM)
        request.next_chunk()
        try:
            request.next_chunk()
            raise AssertionError("the fault did not happen")
        except HttpError as error:
            assert error.status_code >= 500
        check_digests(finish(request), content)
        setting.control("faults", method="DELETE")
    statuses = [entry for entry in setting.control("requests", method="GET") if entry["call"] == "upload_status"]
    assert len(statuses) >= 2 and all(entry["content_range"] == f"bytes */{len(content)}" for entry in statuses)


def errors(setting):
    refused(setting.user.files().get(fileId="made-up"), 404, "notFound")
    setting.fault("get", "always", {"too_many_requests": {"retry_after_seconds": 7}})
    error = refused(setting.user.files().get(fileId=setting.folder), 429, "rateLimitExceeded")
    assert error.resp["retry-after"] == "7"
    setting.control("faults", method="DELETE")
    for reason in ["userRateLimitExceeded", "storageQuotaExceeded", "teamDriveFileLimitExceeded"]:
        setting.fault("get", {"nth": 1}, {"forbidden": {"reason": reason}})
        refused(setting.user.files().get(fileId=setting.folder), 403, reason)
        setting.control("faults", method="DELETE")
    setting.control("quota", {"bytes": 10})
    refused(upload(setting, "too large", noise(QUANTUM)), 403, "storageQuotaExceeded")
    setting.control("quota")


def changes(setting):
    files = setting.user.files()
    id = finish(upload(setting, "before", noise(10)))["id"]
    first = files.get(fileId=id, fields=DIGESTS).execute()
    content = noise(QUANTUM + 1, seed=9)
    media = MediaIoBaseUpload(io.BytesIO(content), "application/octet-stream", chunksize=QUANTUM, resumable=True)
    second = finish(files.update(fileId=id, body={"name": "after"}, media_body=media, fields=DIGESTS))
    check_digests(second, content)
    assert second["name"] == "after" and second["headRevisionId"] != first["headRevisionId"]
    small = MediaIoBaseUpload(io.BytesIO(b"small"), "application/octet-stream")
    check_digests(files.update(fileId=id, media_body=small, fields=DIGESTS).execute(), b"small")
    refused(files.update(fileId=id, body={"parents": [setting.folder]}), 403, "fieldNotWritable")
    assert files.update(fileId=id, body={"trashed": True}, fields="trashed").execute() == {"trashed": True}
    listed = files.list(q=f"'{setting.folder}' in parents and trashed = false").execute()["files"]
    assert id not in [file["id"] for file in listed]
    assert files.delete(fileId=id).execute() in ("", b"")
    refused(files.get(fileId=id), 404, "notFound")
    refused(files.delete(fileId=id), 404, "notFound")


def scopes(setting):
    foreign = setting.control("add_file", {"name": "theirs", "text": "hello", "foreign": True})["id"]
    refused(setting.user.files().get(fileId=foreign), 404, "notFound")
    assert setting.account.files().get_media(fileId=foreign).execute() == b"hello"
    refused(setting.user.drives().list(), 403, "insufficientPermissions")
    assert setting.account.drives().get(driveId=setting.drive).execute()["id"] == setting.drive


def shared_drive(setting):
    files = setting.account.files()
    media = MediaIoBaseUpload(io.BytesIO(b"hello"), "application/octet-stream")
    # A service account owns no storage, but a shared drive has some.
    refused(files.create(body={"name": "a", "parents": [setting.folder]}, media_body=media), 403, "storageQuotaExceeded")
    body = {"name": "a", "parents": [setting.drive]}
    refused(files.create(body=body, media_body=media), 404, "notFound")
    id = files.create(body=body, media_body=media, supportsAllDrives=True).execute()["id"]
    refused(files.get(fileId=id), 404, "notFound")
    assert files.get(fileId=id, supportsAllDrives=True, fields="driveId").execute() == {"driveId": setting.drive}
    assert files.list(q="name = 'a'").execute()["files"] == []
    # Without content it needs no storage.
    beside = files.create(body={"name": "a"}, fields="id").execute()["id"]
    assert [file["id"] for file in files.list(q="name = 'a'").execute()["files"]] == [beside]
    assert files.list(q=f"'{setting.drive}' in parents").execute()["files"] == []
    found = files.list(
        q="name = 'a' and trashed = false",
        corpora="drive",
        driveId=setting.drive,
        includeItemsFromAllDrives=True,
        supportsAllDrives=True,
    ).execute()["files"]
    assert [file["id"] for file in found] == [id]
    refused(
        files.list(corpora="drive", driveId=setting.drive, supportsAllDrives=True), 403, "includeTeamDriveItemsRequired"
    )


def tokens(setting):
    setting.user.files().get(fileId=setting.folder).execute()
    # The client gets a new token and repeats the call.
    setting.control("revoke_tokens")
    setting.user.files().get(fileId=setting.folder).execute()
    asked = [entry for entry in setting.control("requests", method="GET") if entry["call"] == "token"]
    assert len(asked) >= 2 and all(entry["status"] == 200 for entry in asked)
    setting.control("revoke_grant")
    try:
        setting.user.files().get(fileId=setting.folder).execute()
        raise AssertionError("a revoked grant still gives tokens")
    except RefreshError as error:
        assert "invalid_grant" in str(error), error


CHECKS = [
    about,
    resumable_with_generated_id,
    multipart_and_media,
    paging,
    ranges,
    interrupted_uploads,
    errors,
    changes,
    scopes,
    shared_drive,
    # The last one: it ends the grant.
    tokens,
]


def main():
    setting = Setting(sys.argv[1])
    for check in CHECKS:
        check(setting)
        print(f"ok {check.__name__}", flush=True)


if __name__ == "__main__":
    main()
