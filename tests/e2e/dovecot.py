"""Debian's Dovecot on free ports of its own, over Maildirs in one folder; any user, one password."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

PASSWORD = "secret"
UID = 5000


def runnable() -> bool:
    """Whether it is installed and may be started here."""
    return shutil.which("dovecot") is not None and os.geteuid() == 0


class Dovecot:
    """``folder`` must be reachable for everybody; mail lies in ``folder/maild/USER``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mail = folder / "maild"
        self.mail.mkdir()
        self.imap, self.pop3 = _free_port(), _free_port()
        self.config = folder / "dovecot.conf"
        self.config.write_text(f"""
protocols = imap pop3
base_dir = {folder}/run
state_dir = {folder}/run
log_path = {folder}/log
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
default_login_user = nobody
default_internal_user = nobody
default_internal_group = nogroup
mail_location = maildir:{self.mail}/%n
mail_uid = {UID}
mail_gid = {UID}
first_valid_uid = 100
auth_mechanisms = plain
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={UID} gid={UID} home={self.mail}/%n allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {self.imap}
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {self.pop3}
  }}
}}
""")
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it on the mail as it lies, which becomes its own."""
        subprocess.run(["chown", "-R", f"{UID}:{UID}", str(self.mail)], check=True)
        self._process = subprocess.Popen(["dovecot", "-F", "-c", str(self.config)])
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", self.imap), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError((self.folder / "log").read_text())

    def stop(self) -> None:
        """Ends it and waits for its processes."""
        if self._process is not None:
            subprocess.run(["doveadm", "-c", str(self.config), "stop"], check=False, capture_output=True)
            self._process.wait(20)
            self._process = None


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
