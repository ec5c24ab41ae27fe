"""Make a base image from Debian packages: Python, the libraries it needs, CA certificates, and nothing else.

There is no shell in it and no package manager. It is what the images are tested on, and the smallest base for them:

    python scripts/make_base_image.py dagengine-base:local
    make images BASE_IMAGE=dagengine-base:local

It needs a Debian with `apt-get` and `dpkg-deb` (whose release it takes) and lists of packages that are up to date
(`apt-get update`), and a Docker Engine.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    "base-files libc6 libgcc-s1 libstdc++6 libcrypt1 zlib1g libbz2-1.0 liblzma5 libexpat1 libffi8 libssl3 "
    "libsqlite3-0 libuuid1 libtinfo6 libncursesw6 libreadline8 libdb5.3 libnsl2 libtirpc3 libgssapi-krb5-2 "
    "libkrb5-3 libk5crypto3 libkrb5support0 libcom-err2 libkeyutils1 media-types tzdata netbase "
    "ca-certificates"
)
"""Debian packages that Python and the product need at run time; Python's own come on top."""


def main() -> int:
    """Parse the command line, and make the image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", help="name of the image")
    options = parser.parse_args()
    try:
        _make(options.image)
    except (subprocess.CalledProcessError, FileNotFoundError) as error:
        print(f"make_base_image: {error}", file=sys.stderr)
        print("It needs a Debian, its lists of packages (apt-get update), and a Docker Engine.", file=sys.stderr)
        return 1
    print(options.image)
    return 0


def _make(image: str) -> None:
    python = f"python{_debian_python()}"
    with tempfile.TemporaryDirectory(prefix="dagengine-base-") as folder:
        archives, root = Path(folder) / "archives", Path(folder) / "root"
        archives.mkdir()
        root.mkdir()
        (root / "tmp").mkdir(mode=0o1777)
        wanted = [*PACKAGES.split(), f"{python}-minimal", f"lib{python}-minimal", f"lib{python}-stdlib"]
        _run("apt-get", "download", "-qq", *wanted, "-o", "APT::Sandbox::User=root", cwd=archives)
        for archive in sorted(archives.glob("*.deb")):
            _run("dpkg-deb", "--extract", archive, root)
        (root / "tmp").chmod(0o1777)
        (root / "usr/bin/python3").symlink_to(python)
        _trust(root)
        _users(root)
        with subprocess.Popen(["tar", "-C", root, "--sort=name", "-c", "."], stdout=subprocess.PIPE) as tar:
            _run("docker", "import", "--change", 'CMD ["python3"]', "-", image, stdin=tar.stdout)


def _debian_python() -> str:
    """The version of the release's Python, such as 3.11."""
    said = subprocess.run(
        ["apt-cache", "show", "--no-all-versions", "python3"], capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in said.splitlines() if line.startswith("Version: "))
    return ".".join(line.removeprefix("Version: ").split(".")[:2])


def _trust(root: Path) -> None:
    """One file with all certificates, as `update-ca-certificates` makes it: a script of the package that is not run."""
    certificates = sorted((root / "usr/share/ca-certificates").rglob("*.crt"))
    bundle = root / "etc/ssl/certs/ca-certificates.crt"
    bundle.parent.mkdir(parents=True, exist_ok=True)
    bundle.write_text("".join(path.read_text() for path in certificates))


def _users(root: Path) -> None:
    (root / "etc/passwd").write_text(
        "root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/tmp:/sbin/nologin\n"
    )
    (root / "etc/group").write_text("root:x:0:\nnonroot:x:65532:\n")
    (root / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")


def _run(*command: object, cwd: Path | None = None, stdin: object = None) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, stdin=stdin, check=True)  # type: ignore[call-overload] # stdin: a file, or nothing


if __name__ == "__main__":
    sys.exit(main())
