"""The servers: how each is started, what it is called, and with which version.

None is changed, and each logs as much as it can. A keep-alive timeout of its own that is shorter is set to 75 s, nginx's:
what is closed in the test is not closed by that.
"""

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
PORT = 8080


@dataclass
class Server:
    project: str
    part: str
    command: list
    version: list
    tls: bool = False
    files: dict = None
    # It takes no notice of a client's end.
    deaf: bool = False

    def name(self):
        return self.with_version("")

    def with_version(self, version):
        return f"{self.project}{version}{self.part and ', '}{self.part}"

    def shown(self):
        """With the first number that its version command says."""
        said = subprocess.run(self.version, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
        return self.with_version(" " + re.search(r"[0-9]+([.][0-9]+)+", said.stdout + said.stderr)[0])


NGINX = """
pid FOLDER/nginx.pid;
error_log stderr info;
worker_processes 2;
events {}
http {
    access_log off;
    client_body_temp_path FOLDER/body; proxy_temp_path FOLDER/proxy; fastcgi_temp_path FOLDER/fastcgi;
    uwsgi_temp_path FOLDER/uwsgi; scgi_temp_path FOLDER/scgi;
    server { listen 127.0.0.1:PORT TLS; location / { return 200 hello; } }
}
"""
APACHE = """
ServerName test
ServerRoot FOLDER
DefaultRuntimeDir FOLDER
PidFile FOLDER/httpd.pid
ErrorLog /dev/stderr
LogLevel debug
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
Listen 127.0.0.1:PORT
KeepAliveTimeout 75
DocumentRoot FOLDER/www
DirectoryIndex hello
"""
HAPROXY = """
global
    log stderr format raw local0 debug
defaults
    mode http
    log global
    option httplog
    timeout connect 5s
    timeout client 75s
    timeout server 75s
frontend service
    bind 127.0.0.1:PORT
    http-request return status 200 content-type text/plain string hello
"""
JAVA_LOG = """
handlers = java.util.logging.ConsoleHandler
java.util.logging.ConsoleHandler.level = ALL
java.util.logging.SimpleFormatter.format = %4$s %3$s %5$s %6$s%n
com.sun.net.httpserver.level = ALL
"""


def servers(tools, built):
    """All of them; `tools` is what tests/servers has installed, `built` where cargo puts its programs."""
    python, go = f"{tools}/bin/python", [f"{tools}/go-server", str(PORT)]
    java = ["java", "-Djava.util.logging.config.file=FOLDER/logging", "-cp", f"{tools}/java", "Server", str(PORT)]
    threads = [python, f"{HERE}/threads.py", str(PORT)]
    nginx = ["nginx", "-c", "FOLDER/nginx.conf", "-g", "daemon off;"]
    at = f"127.0.0.1:{PORT}"
    pem = ["FOLDER/certificate", "FOLDER/key"]
    of = {
        "go": [f"{tools}/bin/go", "version"],
        "nginx": ["nginx", "-v"],
        "java": ["java", "-version"],
        "python": [python, "--version"],
    }
    package = lambda name: [f"{tools}/bin/pip", "show", name]
    secure = "ssl; ssl_certificate FOLDER/certificate; ssl_certificate_key FOLDER/key"
    app = ["--app-dir", str(HERE), "app:asgi"]
    logging = {"logging": JAVA_LOG}
    return [
        Server("nginx", "", nginx, of["nginx"], files={"nginx.conf": NGINX.replace("TLS", "")}),
        Server("nginx", "TLS", nginx, of["nginx"], tls=True, files={"nginx.conf": NGINX.replace("TLS", secure)}),
        Server(
            "Apache httpd", "event",
            ["apache2", "-DFOREGROUND", "-f", "FOLDER/httpd.conf"],
            ["apache2", "-v"],
            files={"httpd.conf": APACHE, "www/hello": "hello"},
        ),
        Server("HAProxy", "", ["haproxy", "-W", "-db", "-f", "FOLDER/haproxy"], ["haproxy", "-v"], files={"haproxy": HAPROXY}),
        Server("Node", "", ["node", f"{HERE}/server.js", str(PORT)], ["node", "--version"]),
        Server("Java", "com.sun.net.httpserver", java, of["java"], files=logging),
        Server("Java", "com.sun.net.httpserver, TLS", [*java, "FOLDER/keystore"], of["java"], tls=True, files=logging),
        Server("Python", "ThreadingHTTPServer", threads, of["python"]),
        Server("Python", "ThreadingHTTPServer, TLS", [*threads, *pem], of["python"], tls=True),
        Server(
            "gunicorn", "gthread",
            [python, "-m", "gunicorn", "-b", at, "-k", "gthread", "--threads", "4", "-w", "2", "--keep-alive", "75"]
            + ["--log-level", "debug", "--chdir", str(HERE), "app:wsgi"],
            package("gunicorn"),
        ),
        Server(
            "uvicorn", "",
            [python, "-m", "uvicorn", "--port", str(PORT), "--timeout-keep-alive", "75", "--log-level", "trace", *app],
            package("uvicorn"),
        ),
        Server(
            "hypercorn", "",
            [python, "-m", "hypercorn", "-b", at, "--keep-alive", "75", "--log-level", "debug", f"{HERE}/app:asgi"],
            package("hypercorn"),
            deaf=True,
        ),
        Server("Go", "net/http", go, of["go"]),
        Server("Go", "net/http, TLS", [*go, *pem], of["go"], tls=True),
        Server("hyper", "", [f"{built}/examples/server", "--quiet", "--listen", at], ["cargo", "tree", "--locked", "-i", "hyper", "--depth", "0"]),
    ]
