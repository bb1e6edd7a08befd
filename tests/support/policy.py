"""examples/kubernetes/namespace/policy.yaml, as an API server would apply it to pods.

    policy.py POLICY              evaluates its CEL on the pods below, applies the JSON patches, validates what comes out
    policy.py POLICY URL TOKEN    does so too, then compares that with what the API server at URL makes of the same pods

A CEL library knows no types of Kubernetes: `JSONPatch{...}` and `Object.spec...{...}` are read as maps. An API server
also checks the types, when the policy is applied. tests/api-server starts one.
"""

import copy
import difflib
import json
import re
import ssl
import sys
import time
import urllib.error
import urllib.request

import celpy
import celpy.celtypes
import jsonpatch
import kubernetes_validate
import yaml

HOOK = ["/drain/drain-init", "prestop", "--grace"]


def fail(*said, sep=" "):
    sys.exit(sep.join(map(str, said)))


def plain(value):
    """A CEL value as what JSON has."""
    match value:
        case celpy.celtypes.BoolType():
            return bool(value)
        case int():
            return int(value)
        case list():
            return [plain(item) for item in value]
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
        case _:
            return str(value)


class Policy:
    def __init__(self, path):
        with open(path) as file:
            self.policy, self.binding = yaml.safe_load_all(file)
        self.environment = celpy.Environment()
        spec = self.policy["spec"]
        self.conditions = [(it["name"], self.compiled(it["expression"])) for it in spec["matchConditions"]]
        self.variables = [(it["name"], self.compiled(it["expression"])) for it in spec["variables"]]
        self.mutations = [self.compiled(it["jsonPatch"]["expression"]) for it in spec["mutations"]]

    def compiled(self, expression):
        maps = re.sub(r"\b(?:JSONPatch|Object(?:\.\w+)*)\{", "{", expression)
        # `name: value` of a message is `"name": value` of a map; a ternary's colon follows no bare name here.
        maps = re.sub(r"([{,]\s*)(\w+):", r'\1"\2":', maps)
        split = lambda text, by: celpy.celtypes.ListType([celpy.celtypes.StringType(part) for part in str(text).split(str(by))])
        return self.environment.program(self.environment.compile(maps), functions={"split": split})

    def selects(self, labels, namespace):
        resources = self.binding["spec"]["matchResources"]
        for key, value in resources["namespaceSelector"]["matchLabels"].items():
            if namespace.get(key) != value:
                return False
        for it in resources["objectSelector"]["matchExpressions"]:
            if it["operator"] != "NotIn":
                fail("policy.py knows no", it["operator"])
            if labels.get(it["key"]) in it["values"]:
                return False
        return True

    def applied(self, pod, namespace):
        if not self.selects(pod["metadata"].get("labels", {}), namespace):
            return pod
        given = {"object": celpy.json_to_cel(pod)}
        if not all(program.evaluate(given) for _, program in self.conditions):
            return pod
        variables = celpy.celtypes.MapType()
        for name, program in self.variables:
            given["variables"] = variables
            variables[celpy.celtypes.StringType(name)] = program.evaluate(given)
        for program in self.mutations:
            pod = jsonpatch.apply_patch(pod, plain(program.evaluate(given)))
        return pod


def pod(**spec):
    metadata = {"name": "pod", **spec.pop("metadata", {})}
    # What an API server has filled in by then.
    filled = {"terminationGracePeriodSeconds": 30, "containers": [{"name": "app", "image": "app"}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {**filled, **spec}}


HOOKED = {"name": "own", "image": "own", "lifecycle": {"preStop": {"exec": {"command": ["own"]}}}}
CHANGED = {
    "plain": pod(),
    "no grace period": {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": {"containers": [{"name": "app", "image": "app"}]}},
    "ten seconds": pod(terminationGracePeriodSeconds=10),
    "an annotation": pod(metadata={"annotations": {"drain-init/options": "--delay 3s  --max-delay 7s"}}),
    "other annotations and labels": pod(metadata={"annotations": {"a": "b"}, "labels": {"drain-init": "enabled"}}),
    "volumes and mounts": pod(
        volumes=[{"name": "data", "emptyDir": {}}],
        containers=[{"name": "app", "image": "app", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
    ),
    "empty lists": pod(volumes=[], initContainers=[], containers=[{"name": "app", "image": "app", "volumeMounts": []}]),
    "init containers": pod(initContainers=[{"name": "migrate", "image": "app"}]),
    "a native sidecar": pod(initContainers=[{"name": "proxy", "image": "proxy", "restartPolicy": "Always"}]),
    "postStart": pod(containers=[{"name": "app", "image": "app", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}}]),
    "one of three with a hook": pod(containers=[{"name": "a", "image": "a"}, HOOKED, {"name": "b", "image": "b"}]),
    "security context": pod(
        securityContext={"runAsNonRoot": True, "runAsUser": 1000, "seccompProfile": {"type": "RuntimeDefault"}},
        containers=[{"name": "app", "image": "app", "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}],
    ),
    "host namespaces": pod(hostNetwork=True, hostPID=True),
    "Linux by name": pod(os={"name": "linux"}),
    "a command": pod(containers=[{"name": "app", "image": "app", "command": ["/app"], "args": ["drain-init"]}]),
}
UNCHANGED = {
    "opted out": pod(metadata={"labels": {"drain-init": "disabled"}}),
    "Windows": pod(os={"name": "windows"}),
    "a static pod's image": pod(nodeName="node", metadata={"annotations": {"kubernetes.io/config.mirror": "1"}}),
    "a short grace period": pod(terminationGracePeriodSeconds=9),
    "a hook everywhere": pod(containers=[HOOKED]),
    "drain-init as entrypoint": pod(containers=[{"name": "app", "image": "app", "command": ["/drain-init", "--", "/app"]}]),
    "something else at /drain": pod(
        volumes=[{"name": "own", "emptyDir": {}}],
        containers=[{"name": "app", "image": "app", "volumeMounts": [{"name": "own", "mountPath": "/drain"}]}],
    ),
    "such a volume": pod(volumes=[{"name": "drain-init", "emptyDir": {}}]),
    "such an init container": pod(initContainers=[{"name": "drain-init", "image": "x"}]),
}


def check(name, before, after):
    kubernetes_validate.validate(after, kubernetes_validate.latest_version(), strict=True)
    spec, was = after["spec"], before["spec"]
    first, *rest = spec["initContainers"]
    if first["name"] != "drain-init" or rest != was.get("initContainers", []):
        fail(name, "its init containers are", spec["initContainers"])
    context = first["securityContext"]
    restricted = {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "runAsNonRoot": True, "runAsUser": 65532,
        "capabilities": {"drop": ["ALL"]}, "seccompProfile": {"type": "RuntimeDefault"},
    }
    if context != restricted or any(first["resources"][of] != {"cpu": "10m", "memory": "16Mi"} for of in ("requests", "limits")):
        fail(name, "the init container is not restricted or small:", first)
    if spec["volumes"] != was.get("volumes", []) + [{"name": "drain-init", "emptyDir": {}}]:
        fail(name, "its volumes are", spec["volumes"])
    annotation = before["metadata"].get("annotations", {}).get("drain-init/options")
    options = annotation.split() if annotation else ["--until-quiet", "2s", "--close-idle", "100ms", "--quiet-on", "connections"]
    command = [*HOOK, f"{was.get('terminationGracePeriodSeconds', 30)}s", *options]
    for container, original in zip(spec["containers"], was["containers"], strict=True):
        expected = copy.deepcopy(original)
        if "preStop" not in original.get("lifecycle", {}):
            expected.setdefault("lifecycle", {})["preStop"] = {"exec": {"command": command}}
            mount = {"name": "drain-init", "mountPath": "/drain", "readOnly": True}
            expected["volumeMounts"] = original.get("volumeMounts", []) + [mount]
        if container != expected:
            fail(name, container, "is not", expected)
    untouched = {key: value for key, value in spec.items() if key not in ("initContainers", "volumes", "containers")}
    if untouched != {key: value for key, value in was.items() if key in untouched} or after["metadata"] != before["metadata"]:
        fail(name, "something else has changed:", after)
    return command


class Server:
    """An API server. Nothing is checked about its certificate: it is on this host, and a test's own."""

    def __init__(self, url, token):
        self.url, self.token = url, token
        self.tls = ssl.create_default_context()
        self.tls.check_hostname, self.tls.verify_mode = False, ssl.CERT_NONE

    def call(self, method, path, body=None):
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None, headers, method=method)
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=60) as answer:
                warnings = [it for it in answer.headers.get_all("Warning", []) if "is deprecated" not in it]
                if warnings:
                    fail(path, "warns:", warnings)
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except (urllib.error.URLError, OSError) as error:
            return 0, str(error).encode()

    def made(self, path, body):
        status, answer = self.call("POST", path, body)
        if status not in (200, 201):
            fail("POST", path, status, answer.decode())
        return json.loads(answer)

    def dry_run(self, namespace, pod):
        """What becomes of a pod there, without what differs from one request to the next."""
        made = self.made(f"/api/v1/namespaces/{namespace}/pods?dryRun=All&fieldValidation=Strict", pod)
        for key in "uid", "creationTimestamp", "managedFields", "namespace", "generation":
            made["metadata"].pop(key, None)
        del made["status"]
        return json.loads(re.sub(r"kube-api-access-\w{5}", "kube-api-access-00000", json.dumps(made)))

    def until(self, what, is_so):
        for _ in range(600):
            if is_so():
                return
            time.sleep(0.1)
        fail(what, "never came")


# Namespaces and their labels. A pod that `restricted` takes as it is, it has to take with drain-init.
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
NAMESPACES = {
    "plain": {},
    "enabled": {"drain-init": "enabled"},
    "restricted-plain": RESTRICTED,
    "restricted-enabled": {"drain-init": "enabled", **RESTRICTED},
}


def compare(policy, server):
    """The server also fills in what a pod leaves out, so both sides are filled in by it before they are compared."""
    server.until("the API server", lambda: server.call("GET", "/readyz")[0] == 200)
    for namespace, labels in NAMESPACES.items():
        if server.call("GET", f"/api/v1/namespaces/{namespace}")[0] == 404:
            server.made("/api/v1/namespaces", {"metadata": {"name": namespace, "labels": labels}})
            server.made(f"/api/v1/namespaces/{namespace}/serviceaccounts", {"metadata": {"name": "default"}})
    api = f"/apis/{policy.policy['apiVersion']}"
    parts = ("mutatingadmissionpolicies", policy.policy), ("mutatingadmissionpolicybindings", policy.binding)
    for resources, resource in parts:
        server.made(f"{api}/{resources}?fieldValidation=Strict", resource)
    version = json.loads(server.call("GET", "/version")[1])["gitVersion"]

    def changes(pod):
        return server.dry_run("enabled", pod) != server.dry_run("plain", pod)

    server.until("the policy", lambda: changes(CHANGED["plain"]))
    restricted = 0
    for name, pod in {**CHANGED, **UNCHANGED}.items():
        was, now = server.dry_run("plain", pod), server.dry_run("enabled", pod)
        expected = server.dry_run("plain", policy.applied(copy.deepcopy(was), NAMESPACES["enabled"]))
        if now != expected:
            both = (json.dumps(it, indent=1).splitlines() for it in (expected, now))
            fail(f"{version}, {name}:", *difflib.unified_diff(*both, "expected", "the server's", lineterm=""), sep="\n")
        if (now != was) != (name in CHANGED):
            fail(f"{version}, {name}: changed is", now != was)
        if server.dry_run("enabled", now) != now:
            fail(f"{version}, {name}: the second time changes it again")
        path = "/api/v1/namespaces/restricted-{}/pods?dryRun=All"
        if server.call("POST", path.format("plain"), pod)[0] == 201:
            restricted += 1
            server.made(path.format("enabled"), pod)
    if restricted == 0:
        fail("no pod is restricted")
    # A server of which nothing is left, for the next version of the API.
    for resources, resource in parts:
        server.call("DELETE", f"{api}/{resources}/{resource['metadata']['name']}")
    server.until("the policy's end", lambda: not changes(CHANGED["plain"]))
    print(
        f"{version}, {policy.policy['apiVersion']}: {len(CHANGED)} pods changed, {len(UNCHANGED)} left alone,"
        f" {restricted} of them under PodSecurity restricted",
        file=sys.stderr,
    )


def main(path, *server):
    policy, enabled = Policy(path), {"drain-init": "enabled"}
    for resource in policy.policy, policy.binding:
        try:
            kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            fail(path, resource["kind"], error.message)
    commands = []
    for name, before in CHANGED.items():
        after = policy.applied(copy.deepcopy(before), enabled)
        if after == before:
            fail(name, "is not changed")
        commands.append(check(name, before, after))
        if policy.applied(copy.deepcopy(after), enabled) != after:
            fail(name, "the second time changes it again")
        if policy.applied(copy.deepcopy(before), {}) != before:
            fail(name, "is changed in a namespace without the label")
    for name, before in UNCHANGED.items():
        if json.dumps(policy.applied(copy.deepcopy(before), enabled)) != json.dumps(before):
            fail(name, "is changed")
    # For drain-init itself to judge.
    for command in sorted({" ".join(command[1:]) for command in commands}):
        print(command)
    print(f"{len(CHANGED)} pods changed, {len(UNCHANGED)} left alone", file=sys.stderr)
    if server:
        compare(policy, Server(*server))


main(*sys.argv[1:])
