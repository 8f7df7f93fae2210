"""Scrubbing: no secret stays, whatever stands around it, and ordinary templates stay as they are."""

import base64
import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lipservice_dagster.core.scrub import REMOVED, scrub
from lipservice_sampler.masks import mask

LETTERS_DIGITS = string.ascii_letters + string.digits


def _of(alphabet: str, least: int, most: int) -> st.SearchStrategy[str]:
    return st.text(alphabet, min_size=least, max_size=most)


@st.composite
def known_keys(draw):
    beginning, alphabet, length = draw(
        st.sampled_from(
            [
                ("sk-ant-api03-", LETTERS_DIGITS + "-_", 40),
                ("sk_live_", LETTERS_DIGITS, 24),
                ("sk-proj-", LETTERS_DIGITS, 40),
                ("ghp_", LETTERS_DIGITS, 36),
                ("github_pat_", LETTERS_DIGITS + "_", 60),
                ("glpat-", LETTERS_DIGITS, 20),
                ("xoxb-", string.digits + "-" + string.ascii_letters, 30),
                ("AKIA", string.ascii_uppercase + string.digits, 16),
                ("AIza", LETTERS_DIGITS, 35),
                ("npm_", LETTERS_DIGITS, 36),
                ("hf_", string.ascii_letters, 34),
                ("phx_", LETTERS_DIGITS, 40),
            ]
        )
    )
    return beginning + draw(_of(alphabet, length, length))


@st.composite
def tokens(draw):
    """JSON Web Tokens."""
    parts = [{"alg": "HS256", "typ": "JWT"}, {"sub": draw(_of(string.ascii_letters, 5, 20))}]
    encoded = [base64.urlsafe_b64encode(json.dumps(p).encode()).decode().rstrip("=") for p in parts]
    return ".".join([*encoded, draw(_of(LETTERS_DIGITS + "-_", 43, 43))])


emails = st.tuples(_of(string.ascii_lowercase, 3, 12), _of(string.ascii_lowercase, 3, 12)).map(
    "{0[0]}@{0[1]}.com".format
)
cards = _of(string.digits, 16, 16).map(lambda d: " ".join(d[i : i + 4] for i in range(0, 16, 4)))
encoded = st.binary(min_size=24, max_size=64).map(lambda b: base64.b64encode(b).decode()) | st.binary(
    min_size=16, max_size=32
).map(bytes.hex).filter(lambda h: not h.isdigit())
_signs = string.ascii_letters + "!#%&*+,;.?^~"
# With a sign within, so that none is a word of the text around it.
passwords = st.tuples(_of(_signs, 3, 12), st.sampled_from("!#%*+^~"), _of(_signs, 3, 12)).map("".join)

BESIDE = ["{}", "login with {} ok", "({})", "key:{}, next", 'value "{}"', "a\t{}\nb"]


@given(known_keys() | tokens() | emails | cards, st.sampled_from(BESIDE))
def test_secrets_of_a_known_form_are_taken_out(secret, around):
    assert secret not in scrub(around.format(secret))


@given(encoded, st.sampled_from(["{}", "blob {} read", "({})"]))
def test_long_encoded_data_is_taken_out(secret, around):
    assert secret.rstrip("=") not in scrub(around.format(secret))


NAMES = [
    "password",
    "DB_PASSWORD",
    "client_secret",
    "x-api-key",
    "apiKey",
    "access_token",
    "Authorization",
    "session_id",
]
FORMS = ["{}={}", "{}: {}", '"{}": "{}"', '{{"{}":"{}","user":"bob"}}', "--{} {}", "{}='{}'", "{} => {}"]


@given(st.sampled_from(NAMES), passwords, st.sampled_from(FORMS))
def test_values_behind_a_telling_name_are_taken_out(name, secret, form):
    left = scrub(form.format(name, secret))
    assert secret not in left.replace(name, "").replace(REMOVED, "")
    assert name in left


@given(passwords)
def test_credentials_of_urls_and_headers_are_taken_out(secret):
    for text in (
        f"connect postgresql://app:{secret}@db.internal:5432/shop",
        f"Authorization: Bearer {secret}",
        f"authorization=Basic {secret}",
        f"posting to https://hooks.slack.com/services/{secret}",
    ):
        assert secret not in scrub(text)


@pytest.mark.parametrize("kind", ["RSA ", "EC ", "OPENSSH ", "ENCRYPTED ", ""])
@pytest.mark.parametrize("whole", [True, False])
def test_private_keys_are_taken_out_also_when_cut_off(kind, whole):
    body = "\n".join(["abcdef" * 10] * 3)
    text = f"loaded -----BEGIN {kind}PRIVATE KEY-----\n{body}\n" + f"-----END {kind}PRIVATE KEY----- ok" * whole
    assert "abcdef" not in scrub(text)
    assert scrub(text).startswith("loaded")


@given(known_keys() | tokens() | emails | cards | encoded, st.sampled_from(BESIDE))
def test_no_long_piece_of_a_secret_stays_after_masks_and_scrub(secret, around):
    left = scrub(mask(around.format(secret)))
    pieces = {secret[i : i + 12] for i in range(len(secret) - 11)}
    assert not [piece for piece in pieces if piece in left]


@given(st.lists(known_keys() | passwords | st.text(max_size=30) | st.sampled_from([*NAMES, "=", ": ", "<*>", " "])))
def test_scrubbing_again_changes_nothing(parts):
    once = scrub("".join(parts))
    assert scrub(once) == once


@pytest.mark.parametrize(
    "template",
    [
        "GET <*> took <*>",
        "password reset requested for user <*>",
        "password=<*> token: <*> accepted",
        "token expired for session <*>",
        "org.springframework.beans.factory.support.DefaultListableBeanFactory loaded",
        "AbstractSingletonProxyFactoryBean created",
        "dfs.DataNode$PacketResponder: Received block <*> of size <*> from <*>",
        "retry_with_exponential_backoff gave up",
        "session opened for user root by (uid=<*>)",
        "bearer <*> accepted",
        "Event@<*> handled",
        "ERROR_INTERNAL_SERVICE_UNAVAILABLE from upstream",
        "----------------------------------------",
        "pipeline stage=transform rows=<*>",
        "pci_hotplug: PCI Hot Plug PCI Core version: <*>",
    ],
)
def test_ordinary_templates_stay_as_they_are(template):
    assert scrub(template) == template
