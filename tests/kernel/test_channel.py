"""Records and descriptors over the keeper's socket, and who may not speak on it."""

import _socket
import os

import pytest

from sandbox import channel, linux


@pytest.fixture
def pair(tmp_path, monkeypatch):
    """(our end, the other end) of a connection through a socket in a folder whose path is too long for an address."""
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.chdir(folder)
    listener = channel.listen()
    near = channel.connect(str(folder))
    fd, _ = listener._accept()
    far = _socket.socket(fileno=fd)
    far.setblocking(True)
    yield near, far
    for sock in (near, far, listener):
        sock.close()


@pytest.mark.parametrize("size", [0, 1000, 1 << 16, 1 << 20])
def test_a_record_comes_as_it_was_sent(pair, size):
    near, far = pair
    channel.send(near, "exec", {"args": ["x" * size]})
    assert channel.receive(far) == ("exec", {"args": ["x" * size]}, [])


def test_descriptors_come_along(pair):
    near, far = pair
    read, write = os.pipe()
    channel.send(near, "exec", "y" * (1 << 18), [write, read])
    kind, value, fds = channel.receive(far)
    assert (kind, len(value), len(fds)) == ("exec", 1 << 18, 2)
    os.write(fds[0], b"through")
    assert os.read(read, 100) == b"through"
    assert not any(os.get_inheritable(fd) for fd in fds)
    for fd in (read, write, *fds):
        os.close(fd)


@pytest.mark.parametrize("rubbish", [b"", b"x", b"(", b"i\x01\0\0\0", b"\xa9\x02\xda\x04long", b"N" * 70000])
def test_rubbish_is_the_end_or_an_error(pair, rubbish):
    near, far = pair
    near.send(rubbish)
    try:
        assert channel.receive(far)[0] == ""
    except ValueError:
        pass


def test_nobody_listens(tmp_path):
    with pytest.raises(channel.SandboxError, match="it is not running"):
        channel.connect(str(tmp_path))


@pytest.mark.requires("userns")
@pytest.mark.parametrize(("inside", "told"), [(True, True), (False, False)])
def test_who_is_in_sight(tmp_path, monkeypatch, inside, told):
    """A peer of a pid namespace below ours is inside; one that our namespace can not see is not."""
    monkeypatch.chdir(tmp_path)
    listener = channel.listen()
    listener.setblocking(True)
    answer, write = os.pipe()
    pid = linux.clone(linux.CLONE_NEWUSER | linux.CLONE_NEWPID)
    if pid == 0:
        try:
            if inside:
                channel.connect(str(tmp_path)).recv(1)
            else:
                fd, _ = listener._accept()
                os.write(write, b"%d" % (channel.peer(_socket.socket(fileno=fd)) != 0))
        finally:
            os._exit(0)
    if inside:
        fd, _ = listener._accept()
        sock = _socket.socket(fileno=fd)
        assert (channel.peer(sock) != 0) is told
        sock.close()
    else:
        sock = channel.connect(str(tmp_path))
        assert os.read(answer, 1) == b"%d" % told
        sock.close()
    os.waitpid(pid, 0)
    for end in (answer, write):
        os.close(end)
    listener.close()
