"""From backends/locksmith_etcd/rpc.proto to rpc.py and rpc.pyi beside it: `nox -s stubs` runs this.

No generated code: that refuses every protobuf runtime older than its generator. A descriptor, from which the runtime
makes its own classes, does with all of them.
"""

from __future__ import annotations

import base64
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "backends" / "locksmith_etcd"

MODULE = '''\
"""The messages of rpc.proto, as classes of the protobuf that is installed. Made by `nox -s stubs`: edit rpc.proto.

In a descriptor pool of their own, so that nobody else's idea of etcd's messages meets ours in one process.
"""

from __future__ import annotations

from base64 import b64decode

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FILE = descriptor_pb2.FileDescriptorProto.FromString(
    b64decode("""
{encoded}
    """)
)
_pool = descriptor_pool.DescriptorPool()
_pool.Add(FILE)
for _message in FILE.message_type:
    _found = _pool.FindMessageTypeByName(f"{{FILE.package}}.{{_message.name}}")
    globals()[_message.name] = message_factory.GetMessageClass(_found)
'''


def generate() -> dict[str, str]:
    """The contents of both files, by name."""
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        outputs = [f"--pyi_out={here}", f"--descriptor_set_out={here / 'set'}"]
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", *outputs, "rpc.proto"]
        subprocess.run(command, check=True)
        described = (here / "set").read_bytes()
        typed = (here / "rpc_pb2.pyi").read_text("utf-8")
    typed = typed.replace("DESCRIPTOR:", "FILE:").replace("_Mapping]", "_Mapping[str, object]]")
    from google.protobuf import descriptor_pb2

    (file,) = descriptor_pb2.FileDescriptorSet.FromString(described).file
    encoded = base64.encodebytes(file.SerializeToString(deterministic=True)).decode("ascii")
    lines = "\n".join(f"    {line}" for line in encoded.splitlines())
    return {"rpc.py": MODULE.format(encoded=lines), "rpc.pyi": typed}


if __name__ == "__main__":
    for name, content in generate().items():
        (FOLDER / name).write_text(content, "utf-8")
