# Copyright (c) 2026 Muster contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an image requires of NVIDIA's driver and GPUs (NVIDIA_REQUIRE_*), and whether a node has it.

A requirement is alternatives between blanks, each of which is conditions between commas. This is
libnvidia-container's reading of it. Its hook refuses the container where one does not hold; what
Docker gives by CDI is not asked. Pure.
"""

from __future__ import annotations

import operator
import re
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from ansible_collections.muster.serving.plugins.module_utils.common.checks import Check, check
from ansible_collections.muster.serving.plugins.module_utils.common.versions import leading_numbers
from ansible_collections.muster.serving.plugins.module_utils.devices.gpu.driver import driver_check
from ansible_collections.muster.serving.plugins.module_utils.devices.nvidia.cuda import (
    cuda_of,
    driver_needs,
)

OK, REFUSED, UNKNOWN = "ok", "refused", "unknown"

# In the order in which a run of these characters is looked up.
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_CONDITION = re.compile(r"([^<>=!]+)([<>=!]+)([^<>=!].*)", re.DOTALL)
_VERSION = re.compile(r"[0-9]{1,18}(?:\.+[0-9]{1,18})*\.*", re.ASCII)
_BRANCH = re.compile(r"driver>=([0-9]+),driver<([0-9]+)", re.ASCII)

# The first Docker that carries out --gpus by CDI where it can.
_CDI_FIRST = (29, 2)

# By a GPU's name what the driver may call its brand; older container toolkits say Unknown of most.
_BRANDS = (
    (r"GeForce", ("geforce", "geforcertx")),
    (r"TITAN", ("titan", "titanrtx")),
    (r"Quadro|RTX", ("quadro", "quadrortx", "nvidiartx", "nvidia", "unknown")),
    (r"Tesla|\b(?:G?[HB]|[ALPTV])[0-9]{1,3}[A-Z]?\b", ("tesla", "nvidia", "unknown")),
)


class InvalidError(ValueError):
    """A condition that the hook cannot read, for which it refuses the container."""


class Gpu(NamedTuple):
    """What requirements are held against. Null is not known.

    Fields:
        driver: The driver's version.
        cuda: The newest CUDA that it runs.
        arch: The compute capability.
        brand: The brand, in the driver's own word.
    """

    driver: str | None = None
    cuda: str | None = None
    arch: str | None = None
    brand: str | None = None


def evaluate(requirement: str, gpu: Gpu) -> str:
    """Return ok, refused or unknown: whether a GPU meets a requirement.

    What is not known makes it unknown only where it decides.
    """
    result, doubt = OK, False
    for term in filter(None, requirement.split(" ")):
        conditions = list(filter(None, term.split(",")))
        if not conditions:
            break  # The hook takes commas alone for the end.
        holds: bool | None = True
        for condition in conditions:
            try:
                truth = _holds(condition, gpu)
            except InvalidError:
                # The hook stops here, if it gets here.
                return UNKNOWN if doubt or holds is None else REFUSED
            if truth is False:
                holds = False
                break
            holds = holds and truth
        if holds:
            return OK
        doubt, result = doubt or holds is None, REFUSED
    return UNKNOWN if doubt else result


def _holds(condition: str, gpu: Gpu) -> bool | None:
    """Return whether one condition holds; null where what it asks of is not known."""
    match = _CONDITION.fullmatch(condition)
    # A lone ! is the beginning of !=, and is read as that.
    sign = next((one for one in _OPERATORS if match and one.startswith(match[2])), None)
    if not match or sign is None:
        raise InvalidError(condition)
    key, wanted = match[1].lower(), match[3]
    if key not in Gpu._fields:
        raise InvalidError(condition)
    if key == "brand":
        if sign not in ("=", "!="):
            raise InvalidError(condition)
        return None if gpu.brand is None else _OPERATORS[sign](gpu.brand.lower(), wanted.lower())
    if not _VERSION.fullmatch(wanted):
        raise InvalidError(condition)
    seen = getattr(gpu, key)
    if seen is None or not _VERSION.fullmatch(seen):
        return None
    return _OPERATORS[sign](_numbers(seen), _numbers(wanted))


def _numbers(version: str) -> tuple[int, ...]:
    """Return a version's numbers without the zeros at its end, which do not count."""
    numbers = [int(part) for part in version.split(".") if part]
    while numbers and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def brands_of(name: str | None) -> Sequence[str | None]:
    """Return what the brand of a GPU of this name may be; just null where that is not known."""
    for pattern, brands in _BRANDS:
        if name and re.search(pattern, name, re.IGNORECASE):
            return brands
    return (None,)


def requirements_of(env: Mapping[str, str]) -> list[str]:
    """Return what a container with this environment requires, all of which has to hold."""
    if env.get("NVIDIA_DISABLE_REQUIRE") in ("1", "t", "T", "true", "True", "TRUE"):
        return []
    found = [
        value
        for name, value in sorted(env.items())
        if name.startswith("NVIDIA_REQUIRE_") and not name.startswith("NVIDIA_REQUIRE_JETPACK")
    ]
    # As older images were made, which say no more than their CUDA.
    cuda = cuda_of(env.get("CUDA_VERSION", ""))
    if cuda and not env.get("NVIDIA_REQUIRE_CUDA"):
        found.append(f"cuda>={cuda}")
    return [value for value in found if value.strip(" ")]


def summary(requirement: str) -> str:
    """Return a requirement in few words, brands left out: they are a dozen for each branch."""
    branches, others = [], []
    for term in filter(None, requirement.split(" ")):
        plain = ",".join(one for one in term.split(",") if one and not one.startswith("brand="))
        branch = _BRANCH.fullmatch(plain)
        if branch and int(branch[2]) == int(branch[1]) + 1:
            branches.append(branch[1])
        else:
            others.append(plain or term)
    words = list(dict.fromkeys(others))
    if branches:
        words.append(f"a driver of branch {', '.join(dict.fromkeys(branches))}")
    return " or ".join(words)[:300]


class Injection(NamedTuple):
    """How NVIDIA's container toolkit is installed on a node.

    Fields:
        hook: Whether nvidia-container-runtime-hook is there, which asks for requirements.
        cdi_hook: Whether nvidia-cdi-hook is there.
        specifications: CDI specifications of NVIDIA's devices.
        config: The text of its config.toml; null where there is none.
    """

    hook: bool
    cdi_hook: bool
    specifications: Sequence[str]
    config: str | None


def why_unasked(injection: Injection, docker: str) -> str:
    """Return why nobody asks for an image's requirements on a node; empty where the hook does.

    Args:
        injection: How the toolkit is installed.
        docker: Docker's version.
    """
    if re.search(
        r"^[ \t]*disable-require[ \t]*=[ \t]*true\b", injection.config or "", re.MULTILINE
    ):
        return "disable-require is set in NVIDIA's config.toml"
    if not injection.specifications:
        return ""
    takes_cdi = injection.cdi_hook and leading_numbers(docker) >= _CDI_FIRST
    return "Docker gives the GPUs by CDI" if takes_cdi or not injection.hook else ""


def judge(
    requirements: Sequence[str], driver: str | None, cuda: str | None, names: Sequence[str | None]
) -> str:
    """Return ok, refused or unknown: whether all GPUs meet all requirements.

    Args:
        requirements: What requirements_of returned.
        driver: The driver's version.
        cuda: The newest CUDA that it runs.
        names: The names of the GPUs that the container gets.
    """
    found = set()
    for requirement in requirements:
        for name in dict.fromkeys(names) or (None,):
            said = {
                evaluate(requirement, Gpu(driver, cuda, None, brand)) for brand in brands_of(name)
            }
            found.add(said.pop() if len(said) == 1 else UNKNOWN)
    return next((one for one in (REFUSED, UNKNOWN) if one in found), OK)


def requirement_check(
    image: str,
    env: Mapping[str, str],
    driver: str | None,
    cuda: str | None,
    names: Sequence[str | None],
    unasked: str,
) -> Check:
    """Return whether the driver and the GPUs are what an image requires.

    Args:
        image: The image's name.
        env: The environment of its containers.
        driver: The driver's version.
        cuda: The newest CUDA that it runs.
        names: The names of the GPUs that the container gets.
        unasked: What why_unasked returned.
    """
    requirements = requirements_of(env)
    expected = "; ".join(map(summary, requirements)) or "nothing"
    seen = f"driver {driver or 'not told'} (CUDA {cuda or 'not told'})"
    if names:
        seen += f", {', '.join(dict.fromkeys(name or 'a GPU without a name' for name in names))}"
    said = judge(requirements, driver, cuda, names)
    status, remedy = {OK: "ok", UNKNOWN: "unknown", REFUSED: "failed"}[said], ""
    if said != OK and unasked:
        status, seen = "ok", f"{seen}; not asked for: {unasked}"
    elif said == UNKNOWN:
        remedy = (
            f"see whether a container starts: docker run --rm --gpus all --entrypoint true {image}"
        )
    elif said == REFUSED:
        remedy = (
            "install a driver that the image admits, and reboot; or take an image for an older "
            'CUDA (muster_image). NVIDIA_DISABLE_REQUIRE: "1" in muster_engine_env lets the '
            "container start in any case, and what is in it may still want the newer driver"
        )
    return check("image-requirement", status, image, seen, expected, remedy)


def cuda_check(
    image: str, env: Mapping[str, str], driver: str | None, compat: str, names: Sequence[str]
) -> Check:
    """Return whether the driver runs the CUDA that an image says it holds.

    Args:
        image: The image's name.
        env: The environment of its containers.
        driver: The driver's version.
        compat: Whether forward compatibility is used, as a plan's driver.compat has it.
        names: The names of the GPUs that the container gets.
    """
    told = env.get("CUDA_VERSION", "")
    cuda = cuda_of(told)
    if cuda is None:
        remedy = "see what torch.version.cuda is in it"
        seen = "the image does not say which CUDA it holds"
        return check("image-cuda", "unknown", image, seen, "CUDA_VERSION", remedy)
    needs = driver_needs(cuda, f"the image holds CUDA {told}", True, compat)
    return driver_check("nvidia-smi", driver, needs, names, "image-cuda", image)
