"""Every setting of the orchestrator: its unit, its bounds, its default, and one sentence on what it does.

Settings are built once, at the entry point, by `load_settings`, and handed down: nobody else reads files
or the environment. What wins, in this order: overrides of the caller, the environment, the settings file
(`settings.toml` or `settings.json` with the same keys), the defaults below. Unknown keys are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as MalformedEnvironment

from orchestrator.backends import BackendChoice
from orchestrator.errors import SettingsError
from orchestrator.list_prices import LIST_PRICES, OPENAI_LIST_PRICES, PRICES_AS_OF, ListPrices
from orchestrator.settings_sources import (
    SettingsFile,
    WellKnownEnvironment,
    explain,
    refuse_unknown_environment,
)

#: The credential of sessions with Claude, and so the name of its governor.
ANTHROPIC = "anthropic"

#: The same of sessions with other models.
OPENAI = "openai"

Port = Annotated[int, Field(ge=0, le=65535)]
Share = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of the sections: frozen, strict about unknown keys, described by the string below each field."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Database(Section):
    """Which PostgreSQL holds the truth."""

    url: SecretStr = SecretStr("")
    """Any PostgreSQL 15 or newer with pgvector 0.8 or newer (DATABASE_URL); empty = the embedded server."""
    url_owner: SecretStr = SecretStr("")
    """Role that migrates (DATABASE_URL_OWNER); empty = made by the user of `url`, who needs CREATEROLE."""
    url_service: SecretStr = SecretStr("")
    """Role of scheduler and executors (DATABASE_URL_SERVICE); empty = made like the owner."""
    url_api: SecretStr = SecretStr("")
    """Role of the API, under row level security (DATABASE_URL_API); empty = made like the owner."""
    url_direct: SecretStr = SecretStr("")
    """Past the connection pooler, for committer and listener (DATABASE_URL_DIRECT); empty = `url`."""
    embedded_version: Literal["18", "16"] = "18"
    """Major version of the embedded server."""

    @property
    def is_embedded(self) -> bool:
        """Whether the database is the embedded server, which serves one machine only."""
        return not self.url.get_secret_value()


class Http(Section):
    """The HTTP endpoint."""

    host: str = "127.0.0.1"
    """Address to listen on; any other than a loopback address exposes the endpoint to the network."""
    port: Port = 8000
    """Port to listen on."""
    request_timeout_s: PositiveFloat = 60.0
    """Longest time one request may take, streams excepted."""
    body_bytes_max: PositiveInt = 20_000_000
    """Largest request body accepted."""


class Ray(Section):
    """The Ray cluster that carries the actors."""

    address: str = ""
    """Address of a running Ray cluster to join; empty = a local one of our own."""
    dashboard_port: Port = 8265
    """Port of the Ray dashboard of our own cluster."""
    object_store_mb: Annotated[int, Field(ge=80)] = 100
    """Shared memory of our own cluster, in MB."""
    executors_max: PositiveInt = 64
    """Units of the resource `executor` that our own cluster offers: the most executors alive at once."""
    num_cpus: NonNegativeInt = 0
    """Cores that our own cluster offers; 0 = as many as the machine has."""


class Limits(Section):
    """How much runs at once, and how much may wait."""

    sessions_max: PositiveInt = 16
    """Sessions in total, gates included."""
    agent_default_max: PositiveInt = 16
    """Sessions of one agent type that `agent_sessions_max` does not name."""
    agent_sessions_max: Mapping[str, PositiveInt] = Field(default_factory=dict)
    """Sessions by agent type, such as `{"security-specialist" = 2}`."""
    tenant_default_max: NonNegativeInt = 0
    """Sessions of one tenant that `tenant_sessions_max` does not name; 0 = no limit."""
    tenant_sessions_max: Mapping[str, PositiveInt] = Field(default_factory=dict)
    """Sessions by tenant."""
    plan_default_max: NonNegativeInt = 0
    """Sessions of one plan; 0 = no limit."""
    inbox_max: PositiveInt = 10_000
    """Messages that may wait for the scheduler; beyond it callers are told to come back later."""
    plan_budget_usd: NonNegativeFloat = 0.0
    """Spend of a plan that names no budget of its own, in US dollars; 0 = no limit."""
    task_budget_usd: NonNegativeFloat = 0.0
    """Spend of all attempts of a task that names no `budget:`, in US dollars; 0 = no limit."""
    tenant_budget_usd: NonNegativeFloat = 0.0
    """Spend of one tenant in all its plans, in US dollars; 0 = no limit."""
    day_budget_usd: NonNegativeFloat = 0.0
    """Spend of everybody in one day, by UTC, in US dollars; 0 = no limit."""
    no_progress_usd: NonNegativeFloat = 25.0
    """Spend of a plan without a task being done, after which its tasks are held; 0 = no limit."""


class Pool(Section):
    """What one executor of a pool asks of Ray, and how many sessions it runs."""

    num_cpus: NonNegativeFloat = 0.0
    """Cores that an executor reserves."""
    memory_mb: NonNegativeInt = 0
    """Memory that an executor reserves, in MB."""
    resource: str = "executor"
    """Custom resource of which an executor holds one unit, so that autoscalers see it."""
    slots: PositiveInt = 16
    """Sessions that one executor runs side by side."""
    idle_s: PositiveFloat = 60.0
    """Time without a session after which an executor ends."""


class Pools(Section):
    """Executors by agent type."""

    default: Pool = Pool()
    """What holds for a pool that is not named below."""
    gate: Pool = Pool()
    """The pool that runs the gates."""
    agent_types: Mapping[str, Pool] = Field(default_factory=dict)
    """By agent type; a key left out is taken from `default`."""

    def of(self, agent_type: str) -> Pool:
        """Return the pool settings of `agent_type` (`gate` is the pool of the gates)."""
        name = agent_type.partition("@")[0]  # of one that a plan brought along
        own = self.gate if name == "gate" else self.agent_types.get(name, self.default)
        return self.default.model_copy(update={name: getattr(own, name) for name in own.model_fields_set})


class Retry(Section):
    """What follows a failed attempt."""

    attempts_max: PositiveInt = 3
    """Attempts of a task that count, before it fails for good."""
    losses_max: PositiveInt = 3
    """Losses in a row after which a task is held."""
    backoff_ms: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (1000, 2000, 4000, 8000, 16000)
    """Delay after the first, second, ... failed attempt, in ms; the last one repeats."""
    rate_limited_backoff_ms: Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)] = (
        1000, 2000, 4000, 8000, 16000, 32000, 60000,
    )  # fmt: skip
    """Delay after the first, second, ... rate limit in a row, in ms; the last one repeats, without end."""
    jitter: Share = 0.1
    """Share by which a delay is stretched or shortened, hashed from seed, task and attempt."""
    seed: int = 0
    """Seed of the jitter and of simulated sessions."""


class Breaker(Section):
    """When an agent type gets nothing to do for a while."""

    failures_max: NonNegativeInt = 5
    """Tasks that fail in a row, without a success between, until it opens; 0 = never."""
    open_s: PositiveFloat = 60.0
    """Time until it lets one attempt through, to see whether the agent type works again."""


class Leases(Section):
    """How a running attempt proves that it is alive."""

    ttl_s: PositiveFloat = 120.0
    """Time for which an executor trusts a renewed lease."""
    beat_s: PositiveFloat = 15.0
    """Time between two renewals."""
    grace_s: PositiveFloat = 10.0
    """Time beyond `ttl_s` after which the scheduler takes a lease for expired."""
    margin_s: PositiveFloat = 15.0
    """Time before the end of `ttl_s` at which an executor that cannot renew kills its sessions."""
    start_resend_s: PositiveFloat = 8.0
    """Time without a start after which an attempt is sent once more, with the same token."""
    start_timeout_s: PositiveFloat = 20.0
    """Time without a start after which an attempt is lost."""
    prove_patience_s: PositiveFloat = 60.0
    """Time after the end of a lease for which a proof is waited for that its processes are gone."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if 2 * self.beat_s > self.ttl_s - self.margin_s:
            raise ValueError("two beats (beat_s) must fit into ttl_s less margin_s")
        if self.start_resend_s >= self.start_timeout_s:
            raise ValueError("start_resend_s must be less than start_timeout_s")
        return self


class Sessions(Section):
    """Hard limits of one attempt, and how it is run."""

    backend: BackendChoice = "auto"
    """`auto` runs `run:` lines by command and everything else with a model."""
    total_timeout_s: PositiveFloat = 7200.0
    """Longest time of an attempt."""
    idle_timeout_s: PositiveFloat = 900.0
    """Longest time without any output."""
    grace_s: NonNegativeFloat = 5.0
    """Time between asking a process to end and killing it."""
    turns_max: PositiveInt = 50
    """Turns of a conversation with a model."""
    cost_usd_max: NonNegativeFloat = 5.0
    """Spend of one attempt, in US dollars; 0 = no limit."""
    output_bytes_max: PositiveInt = 10_000_000
    """Output of a command that is kept; head and tail remain."""
    context_tokens_max: PositiveInt = 3_000
    """Size of a context pack: what a model is told of a task, in tokens."""
    open_files_max: PositiveInt = 16_384
    """Files that one process may have open."""
    processes_max: PositiveInt = 8_192
    """Processes and threads of the user that sessions run as; root is not held to it."""
    file_mb_max: PositiveInt = 10_000
    """Size of one file that is written, in MB."""
    memory_mb_max: NonNegativeInt = 0
    """Address space of one process, in MB; 0 = no limit, for many programs reserve more than they use."""
    sandbox: Literal["auto", "off", "required"] = "auto"
    """`auto` shows programs only what a session needs, where bubblewrap can; `required` runs none without."""
    sandbox_readable: tuple[Path, ...] = ()
    """Folders that programs in the sandbox may read, besides system, PATH and workspace."""
    sandbox_writable: tuple[Path, ...] = ()
    """Folders that programs in the sandbox may write, besides the workspace, their HOME and /tmp."""
    free_disk_mb_min: NonNegativeInt = 1_000
    """With less room on the disk no clone of a repository is made, in MB; 0 = no bound."""
    network: bool = True
    """False leaves programs in the sandbox without network; Claude Code keeps it to reach its model."""
    uid_first: NonNegativeInt = 60_600
    """As root: first uid of the range for plans without a workdir; 0 = all sessions run as root."""
    uid_count: PositiveInt = 500
    """As root: size of that range; plans share a uid only if there are more."""


class Price(Section):
    """What a model costs, in US dollars per million tokens."""

    input: NonNegativeFloat
    output: NonNegativeFloat
    cache_read: NonNegativeFloat
    cache_write: NonNegativeFloat


def _list_prices(listed: ListPrices = LIST_PRICES) -> dict[str, Price]:
    names = ("input", "output", "cache_read", "cache_write")
    return {model: Price(**dict(zip(names, row, strict=True))) for model, row in listed.items()}


class Anthropic(Section):
    """Claude sessions over the Messages API."""

    api_key: SecretStr = SecretStr("")
    """Key of the API (ANTHROPIC_API_KEY); without one, tasks that need a model are held."""
    base_url: str = ""
    """Address of the API (ANTHROPIC_BASE_URL); empty = the vendor's own."""
    model: str = "claude-sonnet-5-5"
    """Model of the agent types that name none."""
    max_output_tokens: PositiveInt = 16_000
    """Longest answer of one turn, in tokens."""
    thinking: Literal["", "adaptive", "between_tools", "disabled"] = ""
    """Whether the model thinks before it answers; empty = the model's own default."""
    effort: Literal["", "low", "medium", "high", "xhigh", "max"] = ""
    """How hard the model thinks and works; empty = the model's own default."""
    conversation_tokens: PositiveInt = 120_000
    """Size from which old tool results are cleared; half as much again, and a new conversation goes on."""
    prices: Mapping[str, Price] = Field(default_factory=_list_prices)
    """US dollars per million tokens by model: check them; named models replace ours."""
    prices_as_of: Annotated[str, Field(pattern=r"^\d{4}-\d{2}$")] = PRICES_AS_OF
    """Year and month of the price list; say it anew when you have checked the prices."""

    @field_validator("prices")
    @classmethod
    def _keep_list_prices(cls, prices: Mapping[str, Price]) -> Mapping[str, Price]:
        return {**_list_prices(), **prices}


def _openai_list_prices() -> dict[str, Price]:
    return _list_prices(OPENAI_LIST_PRICES)


class OpenAI(Section):
    """Sessions with any model whose provider speaks OpenAI's chat completions."""

    api_key: SecretStr = SecretStr("")
    """Key of the API (OPENAI_API_KEY); any word for an endpoint that needs none."""
    base_url: str = ""
    """Address of the API (OPENAI_BASE_URL), such as http://127.0.0.1:11434/v1; empty = OpenAI's own."""
    model: str = "gpt-6.1-sol"
    """Model of the agent types that name none."""
    max_output_tokens: PositiveInt = 16_000
    """Longest answer of one turn, in tokens."""
    effort: Literal["", "none", "minimal", "low", "medium", "high", "xhigh", "max"] = ""
    """How hard the model thinks; empty = the model's own default."""
    conversation_tokens: PositiveInt = 80_000
    """Half as much again, and a new conversation goes on with what the model writes down for it."""
    prices: Mapping[str, Price] = Field(default_factory=_openai_list_prices)
    """US dollars per million tokens by model: check them; named models replace ours."""
    prices_as_of: Annotated[str, Field(pattern=r"^\d{4}-\d{2}$")] = PRICES_AS_OF
    """Year and month of the price list; say it anew when you have checked the prices."""

    @field_validator("prices")
    @classmethod
    def _keep_list_prices(cls, prices: Mapping[str, Price]) -> Mapping[str, Price]:
        return {**_openai_list_prices(), **prices}


class Governor(Section):
    """How many requests go to the provider of a model; its own limits are learned from its answers."""

    at_once_max: PositiveInt = 64
    """Requests of one credential that are under way at once."""
    start_per_s: PositiveFloat = 5.0
    """Rate at which requests begin after a start, a silence or a pause; it doubles every 5 s while used."""
    wait_max_s: PositiveFloat = 900.0
    """Longest wait of a session for leave, in all; beyond it its attempt ends, charged to nobody."""
    alone_per_s: PositiveFloat = 0.5
    """Rate of an executor while the governor does not answer."""


class RoutingTables(Section):
    """Additions to the routing tables of the package."""

    tracks: Mapping[str, str] = Field(default_factory=dict)
    """Default agent type by track, such as `{"G" = "prompt-analyzer-specialist"}`."""
    aliases: Mapping[str, str] = Field(default_factory=dict)
    """Agent type by the other names that plans use for it."""
    agent_types: Mapping[str, Mapping[str, Any]] = Field(default_factory=dict)
    """Agent types by name: the fields of an agent type file, and `prompt`; they replace those of files."""


class Metrics(Section):
    """How outcomes are aggregated."""

    ema_alpha: Annotated[float, Field(gt=0, le=1)] = 0.3
    """Weight of the newest outcome in the moving averages."""
    period_s: PositiveFloat = 1.0
    """Time between two looks for new outcomes."""
    affinity_read_s: PositiveFloat = 5.0
    """Time after which the scheduler reads changed averages again."""
    state_period_s: PositiveFloat = 30.0
    """Time between two rows of `orchestrator_state`."""


class Encryption(Section):
    """Under which keys transcripts are encrypted in the database."""

    keys: SecretStr = SecretStr("")
    """Keys with blanks between them, the newest first, each 32 bytes in base64; empty = made in the home."""


class Logging(Section):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level that is written."""


def default_home() -> Path:
    """Return the data folder of this user: `$XDG_DATA_HOME/coditect-orchestrator` or its standard place."""
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "coditect-orchestrator"


class Settings(BaseSettings):
    """All settings. Frozen and picklable: the actors get them as an argument.

    Build them by `load_settings`, which turns what is wrong into a SettingsError.
    """

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        env_prefix="ORCHESTRATOR_",
        env_nested_delimiter="__",
        env_ignore_empty=True,
        populate_by_name=True,
    )

    home: Path = Field(default_factory=default_home)
    """Folder that holds database, tokens, logs and this file (ORCHESTRATOR_HOME)."""
    file: Path | None = Field(default=None, validation_alias=AliasChoices("file", "ORCHESTRATOR_SETTINGS"))
    """The settings file (ORCHESTRATOR_SETTINGS); by default settings.toml or settings.json in the home."""
    database: Database = Database()
    http: Http = Http()
    ray: Ray = Ray()
    limits: Limits = Limits()
    pools: Pools = Pools()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    leases: Leases = Leases()
    sessions: Sessions = Sessions()
    anthropic: Anthropic = Anthropic()
    openai: OpenAI = OpenAI()
    governor: Governor = Governor()
    routing: RoutingTables = RoutingTables()
    metrics: Metrics = Metrics()
    encryption: Encryption = Encryption()
    logging: Logging = Logging()

    @property
    def credentials(self) -> tuple[str, ...]:
        """The providers of models for which there is a key; each has a governor of its own."""
        keys = {ANTHROPIC: self.anthropic.api_key, OPENAI: self.openai.api_key}
        return tuple(provider for provider, key in keys.items() if key.get_secret_value())

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        return home.expanduser().absolute()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources, the strongest first."""
        return (
            init_settings,
            env_settings,
            WellKnownEnvironment(settings_cls),
            SettingsFile(settings_cls, default_home=default_home),
        )


def load_settings(home: Path | None = None, overrides: Mapping[str, Any] | None = None) -> Settings:
    """Build the settings from overrides, environment, file and defaults.

    Args:
        home: ORCHESTRATOR_HOME; by default from the environment, else `default_home()`.
        overrides: nested like the file, such as `{"limits": {"sessions_max": 4}}`; `file` names another file.

    Raises:
        SettingsError: a key is unknown, a value malformed or out of bounds, or the file unreadable.
    """
    refuse_unknown_environment(Settings)
    given = dict(overrides or {})
    if home is not None:
        given["home"] = home
    try:
        return Settings(**given)
    except ValidationError as error:
        raise explain(error, Settings) from None
    except MalformedEnvironment as error:
        raise SettingsError(
            f"The environment holds a malformed setting: {error}.",
            remedy="Write lists and tables as JSON, such as '{\"devops-engineer\": 2}'.",
        ) from None
