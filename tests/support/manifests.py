"""The manifests of examples/ against the schemas of those who read them, strictly: what a schema doesn't know is refused.

    manifests.py [FILE...]    Kubernetes manifests; `-` is standard input
    manifests.py --elsewhere  the snippets of examples/elsewhere.md
    manifests.py --words N    prints what the Nth Deployment on standard input runs, a word a line

tests/manifests starts it in a virtual environment with what it imports.
"""

import json
import re
import sys
from importlib.resources import files

import yaml


def refuse(where, why):
    sys.exit(f"{where}: {why}")


def kubernetes(where, text):
    """Against the newest schemas, and what they can't know: grace period and port are the same on both sides."""
    import kubernetes_validate

    resources = [resource for resource in yaml.safe_load_all(text) if resource]
    if not resources:
        refuse(where, "holds no resource")
    for resource in resources:
        name = f"{where}: {resource.get('kind')}/{resource.get('metadata', {}).get('name')}"
        try:
            kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)
        except (kubernetes_validate.ValidationError, kubernetes_validate.SchemaNotFoundError) as error:
            refuse(name, f"{'.'.join(map(str, getattr(error, 'path', [])))}: {getattr(error, 'message', error)}")
        pod = resource if resource["kind"] == "Pod" else resource.get("spec", {}).get("template")
        if pod and "spec" in pod:
            same_grace(name, pod["spec"])
            same_port(name, pod["spec"])
        print(f"{name} ... ok")


def same_grace(where, pod):
    for container in pod["containers"] + pod.get("initContainers", []):
        for grace in graces(container):
            if float(grace.removesuffix("s")) != pod.get("terminationGracePeriodSeconds", 30):
                refuse(where, f"{container['name']}: drain-init's grace period is {grace}, the kubelet's is not")


def graces(container):
    """What each drain-init of the container goes by: its command line, its environment, its default."""
    variable = next((v["value"] for v in container.get("env", []) if v["name"] == "DRAIN_INIT_GRACE"), None)
    if variable:
        yield variable
    hook = container.get("lifecycle", {}).get("preStop", {}).get("exec", {})
    for words in container.get("command", []), hook.get("command", []):
        if words and words[0].endswith("/drain-init") and words[1] not in ("install", "wait"):
            said = re.search(r"--grace[= ](\S+)", " ".join(words))
            yield said[1] if said else variable or "30"


def same_port(where, pod):
    """Who asks /readyz asks drain-init, where it listens."""
    for container in pod["containers"] + pod.get("initContainers", []):
        asked = container.get("readinessProbe", {}).get("httpGet", {})
        if asked.get("path") != "/readyz":
            continue
        variables = {variable["name"]: variable.get("value", "") for variable in container.get("env", [])}
        words = container.get("command", [])
        listen = words[words.index("--ready-listen") + 1] if "--ready-listen" in words else variables.get("DRAIN_INIT_READY_LISTEN", "")
        if listen.rpartition(":")[2] != str(asked["port"]):
            refuse(where, f"{container['name']}: the probe asks port {asked['port']}, drain-init listens on {listen or 'none'}")


def words(number):
    resources = [resource for resource in yaml.safe_load_all(sys.stdin) if resource["kind"] == "Deployment"]
    app = resources[number - 1]["spec"]["template"]["spec"]["containers"][0]
    print(*app["command"], *app.get("args", []), sep="\n")


def elsewhere(path):
    text = open(path).read()
    snippets = dict(re.findall(r"^```(\w+)\n(.*?)^```$", text, re.M | re.S))
    if sorted(snippets) != ["hcl", "json", "yaml"]:
        refuse(path, f"snippets in {sorted(snippets)}")
    nomad(f"{path}: Nomad", snippets["hcl"])
    ecs(f"{path}: ECS", json.loads(snippets["json"]))
    cloud_run(f"{path}: Cloud Run", yaml.safe_load(snippets["yaml"]))


def nomad(where, text):
    """Nomad has no schema in a package: the syntax, and the two places that the variable feeds."""
    import hcl2

    hcl2.loads(text)
    for line in ["kill_timeout = var.grace", "DRAIN_INIT_GRACE = var.grace"]:
        if line not in text:
            refuse(where, f"has no `{line}`")
    print(f"{where} ... ok (syntax)")


def ecs(where, task):
    """As the AWS client checks it before it sends it."""
    import botocore.session
    from botocore.validate import ParamValidator

    operation = botocore.session.get_session().get_service_model("ecs").operation_model("RegisterTaskDefinition")
    report = ParamValidator().validate(task, operation.input_shape)
    if report.has_errors():
        refuse(where, report.generate_report())
    for container in task["containerDefinitions"]:
        variables = {variable["name"]: variable["value"] for variable in container["environment"]}
        if float(variables["DRAIN_INIT_GRACE"]) != container["stopTimeout"]:
            refuse(where, "DRAIN_INIT_GRACE is not stopTimeout")
    print(f"{where} ... ok")


def cloud_run(where, service):
    """Against the API's own description, which the Google client carries."""
    document = files("googleapiclient") / "discovery_cache" / "documents" / "run.v1.json"
    schemas = json.loads(document.read_text())["schemas"]

    def check(value, schema, at):
        schema = schemas[schema["$ref"]] if "$ref" in schema else schema
        kinds = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
        if not isinstance(value, kinds[schema["type"]]):
            refuse(where, f"{at} is no {schema['type']}")
        if isinstance(value, list):
            for index, item in enumerate(value):
                check(item, schema["items"], f"{at}[{index}]")
        for key, item in value.items() if isinstance(value, dict) else ():
            known = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if not known:
                refuse(where, f"{at}.{key} is not known")
            check(item, known, f"{at}.{key}")

    check(service, {"$ref": "Service"}, "Service")
    print(f"{where} ... ok")


def main(arguments):
    if arguments == ["--elsewhere"]:
        return elsewhere("examples/elsewhere.md")
    if arguments[:1] == ["--words"]:
        return words(int(arguments[1]))
    for path in arguments or refuse("manifests.py", "no file"):
        if path == "-":
            kubernetes("standard input", sys.stdin.read())
        else:
            kubernetes(path, open(path).read())


main(sys.argv[1:])
